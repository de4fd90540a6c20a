//! A crowd of echo clients, and their server, for benchmarks of forwarders. `crowd serve ADDRESS` answers what it is sent.
//! `crowd join ADDRESS EVERY_US PAUSE_US MOST`: a client more each EVERY_US, each of which sends 64 bytes, waits for them and
//! pauses for PAUSE_US; every second a line of JSON with what was seen in it: `clients`, `echoes`, `p50_us`, `p99_us`, `failed`
//! (connections that could not be made or broke). A line on standard input ends it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is sent and comes back.
const BYTES: usize = 64;

/// What has been seen in this second, and how many there are.
struct Seen {
    times: RefCell<Histogram<u64>>,
    clients: Cell<u32>,
    failed: Cell<u32>,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    match words[..] {
        ["serve", address] => local.block_on(&runtime, serve(address)),
        ["join", address, every, pause, most] => {
            let (every, pause) = (Duration::from_micros(every.parse()?), Duration::from_micros(pause.parse()?));
            local.block_on(&runtime, join(address, every, pause, most.parse()?))
        }
        _ => bail!("crowd serve ADDRESS | crowd join ADDRESS EVERY_US PAUSE_US MOST"),
    }
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

async fn serve(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
    println!("serving at {}", listener.local_addr()?);
    loop {
        // Too many at once is the client's to tell.
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::task::spawn_local(async move {
            let _ = stream.set_nodelay(true);
            let mut bytes = [0; BYTES];
            while stream.read_exact(&mut bytes).await.is_ok() && stream.write_all(&bytes).await.is_ok() {}
        });
    }
}

async fn join(address: &str, every: Duration, pause: Duration, most: u32) -> Result<()> {
    let seen = Rc::new(Seen {
        times: RefCell::new(Histogram::new_with_bounds(1, 60_000_000_000, 3)?),
        clients: Cell::new(0),
        failed: Cell::new(0),
    });
    let (stop, mut enough) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("input".into()).spawn(move || {
        let _ = std::io::stdin().lines().next();
        let _ = stop.send(());
    })?;
    let mut join = tokio::time::interval(every);
    join.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    let mut asked = 0;
    loop {
        tokio::select! {
            _ = join.tick(), if asked < most => {
                asked += 1;
                tokio::task::spawn_local(client(address.to_owned(), pause, seen.clone()));
            }
            _ = second.tick() => tell(&seen),
            _ = &mut enough => return Ok(()),
        }
    }
}

fn tell(seen: &Seen) {
    let mut times = seen.times.borrow_mut();
    let us = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    let line = serde_json::json!({
        "clients": seen.clients.get(), "failed": seen.failed.get(), "echoes": times.len(),
        "p50_us": us(0.5), "p99_us": us(0.99),
    });
    println!("{line}");
    times.reset();
}

async fn client(address: String, pause: Duration, seen: Rc<Seen>) {
    let failed = || seen.failed.set(seen.failed.get() + 1);
    let Ok(mut stream) = TcpStream::connect(&address).await else { return failed() };
    let _ = stream.set_nodelay(true);
    seen.clients.set(seen.clients.get() + 1);
    if echoes(&mut stream, pause, &seen).await.is_err() {
        failed();
    }
    seen.clients.set(seen.clients.get() - 1);
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
async fn echoes(stream: &mut TcpStream, pause: Duration, seen: &Seen) -> std::io::Result<()> {
    let mut bytes = [7; BYTES];
    loop {
        let began = Instant::now();
        stream.write_all(&bytes).await?;
        stream.read_exact(&mut bytes).await?;
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        seen.times.borrow_mut().saturating_record(took);
        // Timers are no finer than a millisecond; a shorter pause is one turn of the others.
        if pause < Duration::from_millis(1) {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}

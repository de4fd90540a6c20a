//! The test of the port forwarder's seed: clients join one after the other and echo without pause; where is the knee?

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ECHO;
use super::measure::histogram;

/// Clients between two lines.
const STEP: usize = 100;
/// The knee: the 99th percentile is so many times that of the first line.
const KNEE: f64 = 10.0;

/// Prints a line of JSON for each hundred clients, and the knee at the end.
pub(crate) fn run(to: SocketAddr, join: Duration, gap: Duration, most: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (times, errors) = (Rc::new(RefCell::new(histogram())), Rc::new(RefCell::new(0_u64)));
        let (mut first, mut clients, mut knee) = (None, 0, None);
        let mut tick = tokio::time::interval(join);
        while clients < most && knee.is_none() {
            tick.tick().await;
            clients += 1;
            let (counted, failed) = (times.clone(), errors.clone());
            tokio::task::spawn_local(async move {
                if client(to, gap, &counted).await.is_err() {
                    *failed.borrow_mut() += 1;
                }
            });
            if clients % STEP == 0 {
                let window = times.replace(histogram());
                let p99 = window.value_at_quantile(0.99) as f64 / 1e3;
                let p50 = window.value_at_quantile(0.5) as f64 / 1e3;
                println!(
                    "{}",
                    json!({ "clients": clients, "p50_us": p50, "p99_us": p99, "trips": window.len(), "errors": *errors.borrow() })
                );
                let base = *first.get_or_insert(p99);
                if p99 > KNEE * base {
                    knee = Some(clients);
                }
            }
        }
        println!("{}", json!({ "knee": knee, "clients": clients, "errors": *errors.borrow() }));
        Ok(())
    })
}

async fn client(to: SocketAddr, gap: Duration, times: &RefCell<Histogram<u64>>) -> io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[ECHO]).await?;
    let mut message = [7; 64];
    loop {
        let sent = Instant::now();
        stream.write_all(&message).await?;
        stream.read_exact(&mut message).await?;
        times.borrow_mut().saturating_record(sent.elapsed().as_nanos() as u64);
        let next = Instant::now() + gap;
        while Instant::now() < next {
            tokio::task::yield_now().await;
        }
    }
}

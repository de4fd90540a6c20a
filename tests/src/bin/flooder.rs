//! Floods from within its host's network: `flooder TO RATE SECONDS NAME` sends forged requests for NAME to TO, RATE per
//! second, and says "sent N" in the end; `flooder --sink AT` reads what comes to AT and says nothing.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use flowring_tests::spoof::{Forger, Forgeries};

const USAGE: &str = "flooder TO RATE SECONDS NAME, or flooder --sink AT";
/// Datagrams go out in bunches, this far apart.
const TICK: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [sink, at] if sink == "--sink" => drain(at.parse()?),
        [to, rate, seconds, name] => flood(to.parse()?, rate.parse()?, seconds.parse()?, name),
        _ => anyhow::bail!(USAGE),
    }
}

#[expect(clippy::disallowed_methods, reason = "a sink is a plain socket")]
fn drain(at: SocketAddrV4) -> Result<()> {
    let socket = UdpSocket::bind(at).context("the sink")?;
    println!("reading");
    let mut buffer = [0; 2048];
    loop {
        socket.recv_from(&mut buffer)?;
    }
}

#[expect(clippy::disallowed_methods, reason = "a flood keeps its rate by the clock")]
fn flood(to: SocketAddrV4, rate: u64, seconds: f64, name: &str) -> Result<()> {
    let forger = Forger::here()?;
    let mut forgeries = Forgeries::new(to, name, true)?;
    println!("flooding");
    let (start, length) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut sent = 0;
    while start.elapsed() < length {
        let due = u64::try_from(start.elapsed().as_micros())? * rate / 1_000_000;
        while sent < due {
            // A full queue on the way is what a flood makes.
            let _ = forgeries.send(&forger);
            sent += 1;
        }
        std::thread::sleep(TICK);
    }
    println!("sent {sent}");
    Ok(())
}

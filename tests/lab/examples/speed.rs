//! How fast and how true the lab's links are, for docs/lab.md: `cargo run --release -p flowring-lab --example speed`.

#![expect(clippy::disallowed_methods, reason = "measures with clocks and sockets")]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::{Host, Lab, Link};

const SIZE: usize = 1400;
const TIME: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    lab::enter()?;
    println!("| link | offered, Gbit/s | passed, Gbit/s | lost or dropped |\n|---|---|---|---|");
    let clean = Link::CLEAN;
    let delay = Link { delay: Duration::from_millis(10), ..clean };
    for (what, link, offered) in [
        ("plain veth", None, 1.0),
        ("`Link::CLEAN`", Some(clean), 0.5),
        ("`Link::CLEAN`", Some(clean), 1.0),
        ("`Link::CLEAN`", Some(clean), 1.5),
        ("`Link::CLEAN`", Some(clean), f64::INFINITY),
        ("delay 10 ms", Some(delay), 1.0),
        ("loss 1 %", Some(Link { loss: 0.01, ..clean }), 1.0),
        ("rate 100 Mbit/s", Some(Link { rate: Some(100_000_000), ..clean }), 0.2),
    ] {
        let (sent, came) = throughput(link, offered)?;
        println!(
            "| {what} | {:.2} | {:.2} | {:.2} % |",
            gbit(sent),
            gbit(came),
            100.0 * (1.0 - came as f64 / sent as f64)
        );
    }
    println!("\n| delay one way | least | median | 99 % |\n|---|---|---|---|");
    for ms in [0, 1, 10, 50] {
        let times = delays(Link { delay: Duration::from_millis(ms), ..clean })?;
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!("| {ms} ms | {:.3} ms | {:.3} ms | {:.3} ms |", at(0), at(50), at(99));
    }
    Ok(())
}

fn pair(lab: &Lab, link: Option<Link>) -> Result<(Host, UdpSocket, UdpSocket)> {
    let [a, b] = lab.hosts(["a", "b"])?;
    if let Some(link) = link {
        a.link().set_each(link, Link::CLEAN)?;
    }
    let (here, there) = (a.socket(0)?, b.socket(0)?);
    here.connect(there.local_addr()?)?;
    Ok((a, here, there))
}

fn gbit(datagrams: u64) -> f64 {
    (datagrams * SIZE as u64 * 8) as f64 / TIME.as_secs_f64() / 1e9
}

/// Datagrams that were sent, at most `offered` Gbit/s of them, and that came.
fn throughput(link: Option<Link>, offered: f64) -> Result<(u64, u64)> {
    let lab = Lab::new()?;
    let (a, here, there) = pair(&lab, link)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&there, 4 << 20)?;
    there.set_read_timeout(Some(Duration::from_millis(500)))?;
    here.send(&[0; SIZE])?;
    there.recv(&mut [0; SIZE])?;
    let receiving = std::thread::Builder::new().spawn(move || {
        let mut bytes = [0; 2048];
        std::iter::from_fn(|| there.recv(&mut bytes).ok()).count() as u64
    })?;
    let (began, mut sent) = (Instant::now(), 0);
    let mut tick = 0;
    while began.elapsed() < TIME {
        let due = offered * 1e9 * TICK.as_secs_f64() * f64::from(tick + 1) / 8.0 / SIZE as f64;
        for _ in 0..200 {
            if (sent as f64) < due {
                sent += u64::from(here.send(&[7; SIZE]).is_ok());
            }
        }
        // Bursts of a millisecond: finer than any pause that this machine keeps.
        let next = began + TICK * (tick + 1);
        if sent as f64 >= due {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            tick += 1;
        }
    }
    let came = receiving.join().ok().context("the receiver panicked")?;
    eprintln!("{:?}", a.link().counts()?.0);
    Ok((sent, came))
}

/// What datagrams took that were sent one at a time, sorted.
fn delays(link: Link) -> Result<Vec<Duration>> {
    let lab = Lab::new()?;
    let (_a, here, there) = pair(&lab, Some(link))?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        here.send(&[7; 64])?;
        there.recv(&mut [0; 64])?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times)
}

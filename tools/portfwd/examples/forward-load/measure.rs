//! Clients that measure; each prints one line of JSON.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::{ECHO, HOLD, MEBIBYTE, SINK, TOUCH};

const BLOCK: usize = 256 << 10;
/// The answer of a target that is stuck is not waited for.
const STUCK: Duration = Duration::from_secs(30);

pub(crate) fn to(to: SocketAddr, what: u8) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STUCK))?;
    stream.write_all(&[what])?;
    Ok(stream)
}

/// Bytes that a sink has taken.
pub(crate) fn stream(at: SocketAddr, streams: usize, time: Duration) -> io::Result<()> {
    let began = Instant::now();
    let threads: Vec<_> = (0..streams)
        .map(|_| {
            std::thread::spawn(move || -> io::Result<u64> {
                let mut stream = to(at, SINK)?;
                let (block, mut mebibytes) = (vec![7; BLOCK], 0);
                while began.elapsed() < time {
                    for _ in 0..MEBIBYTE as usize / BLOCK {
                        stream.write_all(&block)?;
                    }
                    mebibytes += 1;
                }
                stream.read_exact(&mut vec![0; mebibytes as usize])?;
                Ok(mebibytes * MEBIBYTE)
            })
        })
        .collect();
    let mut bytes = 0;
    for thread in threads {
        bytes += thread.join().expect("no panic")?;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{}", json!({ "gbit_s": bytes as f64 * 8e-9 / seconds, "bytes": bytes, "seconds": seconds }));
    Ok(())
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds of a minute")
}

/// One client's round trips.
pub(crate) fn trip(at: SocketAddr, time: Duration) -> io::Result<()> {
    let mut stream = to(at, ECHO)?;
    let (mut message, mut times) = ([7; 64], histogram());
    let began = Instant::now();
    while began.elapsed() < time {
        let sent = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        times.saturating_record(sent.elapsed().as_nanos() as u64);
    }
    let us = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    println!("{}", json!({ "count": times.len(), "p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999) }));
    Ok(())
}

/// Connections that are made, answered with a byte and ended, some at a time.
pub(crate) fn connect(at: SocketAddr, abreast: usize, time: Duration) -> io::Result<()> {
    let began = Instant::now();
    let threads: Vec<_> = (0..abreast)
        .map(|_| {
            std::thread::spawn(move || {
                let (mut made, mut failed, mut times) = (0_u64, 0_u64, histogram());
                while began.elapsed() < time {
                    let start = Instant::now();
                    match touch(at) {
                        Ok(()) => made += 1,
                        Err(_) => failed += 1,
                    }
                    times.saturating_record(start.elapsed().as_nanos() as u64);
                }
                (made, failed, times)
            })
        })
        .collect();
    let (mut made, mut failed, mut times) = (0, 0, histogram());
    for thread in threads {
        let (m, f, t) = thread.join().expect("no panic");
        (made, failed) = (made + m, failed + f);
        times.add(&t).expect("the same bounds");
    }
    let rate = made as f64 / began.elapsed().as_secs_f64();
    let us = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{}",
        json!({ "per_second": rate, "made": made, "failed": failed, "p50_us": us(0.5), "p99_us": us(0.99) })
    );
    Ok(())
}

fn touch(at: SocketAddr) -> io::Result<()> {
    let mut stream = to(at, TOUCH)?;
    let mut word = Vec::new();
    stream.read_to_end(&mut word)?;
    if word == b"!" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Idle connections. Says how many there are, and ends with its input.
pub(crate) fn hold(at: SocketAddr, count: usize) -> io::Result<()> {
    let mut held = Vec::with_capacity(count);
    let mut error = None;
    for _ in 0..count {
        let one = to(at, HOLD).and_then(|mut stream| stream.read_exact(&mut [0]).map(|()| stream));
        match one {
            Ok(stream) => held.push(stream),
            Err(why) => {
                error = Some(why.to_string());
                break;
            }
        }
    }
    println!("{}", json!({ "held": held.len(), "error": error }));
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

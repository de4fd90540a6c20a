//! From a socket to a flow that may be written to, and back: until one byte has been echoed.

use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transport::Congestion;

use super::flows::{Both, on_thread, runtime, sockets};
use super::numbers::{cpu, percentile, round};
use super::{Carrier, bare, tcp};

#[derive(Args)]
pub(crate) struct Options {
    /// What is shaken hands for.
    carrier: Carrier,
    /// How many, one after another.
    #[arg(long, default_value_t = 500)]
    count: usize,
}

pub(crate) fn run(options: &Options) {
    let before = cpu();
    let mut times = match options.carrier {
        Carrier::Tcp | Carrier::Tls => over_tcp(options),
        Carrier::Bare => over_bare(options.count),
        Carrier::Flow => over_flow(options.count),
    };
    let spent = (cpu() - before).as_secs_f64() * 1e6 / options.count as f64;
    let name = format!("{:?}", options.carrier).to_lowercase();
    let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    let line = serde_json::json!({
        "bench": "handshake", "carrier": name, "count": options.count, "p50_us": p50, "p99_us": p99, "cpu_us": round(spent),
    });
    println!("{line}");
}

fn over_flow(count: usize) -> Vec<Duration> {
    let both = Both::new();
    let (give, take) = mpsc::channel();
    let (ready, go) = mpsc::channel();
    let theirs = both.clone();
    let server = on_thread(move || async move {
        for _ in 0..count {
            let socket = take.recv().expect("a socket");
            ready.send(()).expect("somebody waits");
            let flow = theirs.accept(socket, Default::default()).await;
            let (mut send, mut recv) = flow.accept_stream().await.expect("a stream");
            send.write_u8(recv.read_u8().await.expect("a byte")).await.expect("written");
            flow.closed().await;
        }
    });
    let times = runtime().block_on(async {
        let mut times = Vec::new();
        for _ in 0..count {
            let [near, far] = sockets();
            give.send(far).expect("somebody waits");
            go.recv().expect("it is ready");
            let began = Instant::now();
            let flow = both.ask(near, Default::default()).await;
            let (mut send, mut recv) = flow.open_stream().await.expect("a stream");
            send.write_u8(7).await.expect("written");
            recv.read_u8().await.expect("a byte");
            times.push(began.elapsed());
            flow.close().await;
        }
        times
    });
    server.join().expect("no panic");
    times
}

fn over_bare(count: usize) -> Vec<Duration> {
    let (address, at) = mpsc::channel();
    let server = on_thread(move || async move {
        let server = bare::server(&bare::Own::new(), Congestion::Bbr3);
        address.send(server.local_addr().expect("an address")).expect("somebody waits");
        for _ in 0..count {
            let connection = server.accept().await.expect("a client").await.expect("a connection");
            let (mut send, mut recv) = connection.accept_bi().await.expect("a stream");
            send.write_u8(recv.read_u8().await.expect("a byte")).await.expect("written");
            connection.closed().await;
        }
    });
    let to = at.recv().expect("an address");
    let times = runtime().block_on(async {
        let mut times = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            let connection = bare::connect(to, Congestion::Bbr3).await;
            let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
            send.write_u8(7).await.expect("written");
            recv.read_u8().await.expect("a byte");
            times.push(began.elapsed());
            connection.close(0u32.into(), b"");
        }
        times
    });
    server.join().expect("no panic");
    times
}

fn over_tcp(options: &Options) -> Vec<Duration> {
    let server = tcp::Server::new(options.carrier);
    let (to, count) = (server.address(), options.count);
    let server = std::thread::Builder::new().name("end".into()).spawn(move || {
        for _ in 0..count {
            let mut stream = server.accept();
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a byte");
            stream.write_all(&byte).expect("written");
            stream.flush().expect("written");
        }
    });
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let mut stream = tcp::connect(options.carrier, to);
        stream.write_all(&[7]).expect("written");
        stream.flush().expect("written");
        stream.read_exact(&mut [0]).expect("a byte");
        times.push(began.elapsed());
    }
    server.expect("a thread").join().expect("no panic");
    times
}

//! Bytes on one stream, one way.

use std::io::{Read as _, Write as _};
use std::sync::mpsc;

use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use transport::Congestion;

use super::flows::{Both, on_thread, sockets};
use super::numbers::Watch;
use super::{Carrier, bare, tcp};

/// Read and written at once.
const CHUNK: usize = 64 << 10;
/// Before it counts: the path's MTU and the windows are found.
const WARM_UP: u64 = 64 << 20;

#[derive(Args)]
pub(crate) struct Options {
    /// What carries them.
    carrier: Carrier,
    /// How many, MB.
    #[arg(long, default_value_t = 2000)]
    megabytes: u64,
    #[arg(long, default_value = "bbr3", value_parser = congestion)]
    congestion: Congestion,
}

pub(crate) fn run(options: &Options) {
    let bytes = options.megabytes * 1_000_000;
    let (began, begin) = mpsc::channel();
    match options.carrier {
        Carrier::Tcp | Carrier::Tls => over_tcp(options.carrier, bytes, began),
        Carrier::Bare => over_bare(options.congestion, bytes, began),
        Carrier::Flow => over_flow(options.congestion, bytes, began),
    }
    let watch: Done = begin.recv().expect("it has run");
    let name = format!("{:?}", options.carrier).to_lowercase();
    let line = serde_json::json!({
        "bench": "stream", "carrier": name, "congestion": options.congestion.as_str(), "megabytes": options.megabytes,
        "gbit_s": watch.0, "cpu_s_per_gb": watch.1,
    });
    println!("{line}");
}

/// "bbr3", "cubic", "newreno".
fn congestion(text: &str) -> Result<Congestion, String> {
    text.parse().map_err(|error: transport::NoSuchCongestion| error.to_string())
}

/// Gbit/s, CPU s/GB.
struct Done(f64, f64);

async fn write(mut stream: impl AsyncWrite + Unpin, bytes: u64) {
    let chunk = vec![0x5a; CHUNK];
    let mut left = WARM_UP + bytes;
    while left > 0 {
        let len = left.min(CHUNK as u64);
        stream.write_all(&chunk[..len as usize]).await.expect("written");
        left -= len;
    }
    stream.shutdown().await.expect("finished");
}

async fn read(mut stream: impl AsyncRead + Unpin, bytes: u64, done: mpsc::Sender<Done>) {
    let mut chunk = vec![0; CHUNK];
    let (mut got, mut watch) = (0, None);
    loop {
        let len = stream.read(&mut chunk).await.expect("read");
        got += len as u64;
        if watch.is_none() && got >= WARM_UP {
            watch = Some((Watch::start(), got));
        }
        if len == 0 {
            break;
        }
    }
    assert_eq!(got, WARM_UP + bytes);
    let (watch, at) = watch.expect("more than the warm-up");
    let (rate, cpu) = watch.rate(got - at);
    done.send(Done(rate, cpu)).expect("somebody waits");
}

fn over_flow(congestion: Congestion, bytes: u64, done: mpsc::Sender<Done>) {
    let [near, far] = sockets();
    let both = Both::new();
    let options = transport::quic::Options { congestion, ..Default::default() };
    let (theirs, accepting) = (both.clone(), options.clone());
    let reader = on_thread(move || async move {
        let flow = theirs.accept(far, accepting).await;
        let (_send, recv) = flow.accept_stream().await.expect("a stream");
        read(recv, bytes, done).await;
        flow.closed().await
    });
    let writer = on_thread(move || async move {
        let flow = both.ask(near, options).await;
        let (send, _recv) = flow.open_stream().await.expect("a stream");
        write(send, bytes).await;
        flow.close().await;
    });
    writer.join().expect("no panic");
    reader.join().expect("no panic");
}

fn over_bare(congestion: Congestion, bytes: u64, done: mpsc::Sender<Done>) {
    let (address, at) = mpsc::channel();
    let reader = on_thread(move || async move {
        let server = bare::server(&bare::Own::new(), congestion);
        address.send(server.local_addr().expect("an address")).expect("somebody waits");
        let connection = server.accept().await.expect("a client").await.expect("a connection");
        let (_send, recv) = connection.accept_bi().await.expect("a stream");
        read(recv, bytes, done).await;
        connection.closed().await
    });
    let to = at.recv().expect("an address");
    let writer = on_thread(move || async move {
        let connection = bare::connect(to, congestion).await;
        let (mut send, _recv) = connection.open_bi().await.expect("a stream");
        write(&mut send, bytes).await;
        send.stopped().await.expect("arrived");
        connection.close(0u32.into(), b"");
    });
    writer.join().expect("no panic");
    // Its server goes on until its own timeout.
    drop(reader);
}

fn over_tcp(carrier: Carrier, bytes: u64, done: mpsc::Sender<Done>) {
    let server = tcp::Server::new(carrier);
    let to = server.address();
    let reader = std::thread::Builder::new().name("end".into()).spawn(move || {
        let mut stream = server.accept();
        let mut chunk = vec![0; CHUNK];
        let (mut got, mut watch) = (0, None);
        while got < WARM_UP + bytes {
            got += stream.read(&mut chunk).expect("read") as u64;
            if watch.is_none() && got >= WARM_UP {
                watch = Some((Watch::start(), got));
            }
        }
        let (watch, at) = watch.expect("more than the warm-up");
        let (rate, cpu) = watch.rate(got - at);
        done.send(Done(rate, cpu)).expect("somebody waits");
    });
    let mut stream = tcp::connect(carrier, to);
    let chunk = vec![0x5a; CHUNK];
    let mut left = WARM_UP + bytes;
    while left > 0 {
        let len = left.min(CHUNK as u64);
        stream.write_all(&chunk[..len as usize]).expect("written");
        left -= len;
    }
    stream.flush().expect("written");
    reader.expect("a thread").join().expect("no panic");
}

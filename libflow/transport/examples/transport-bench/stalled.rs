//! A thousand streams of one flow, of which a hundred are not read.

use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transport::quic::{RecvHalf, SendHalf};

use super::flows::{Both, on_thread, sockets};
use super::numbers::Watch;

const CHUNK: usize = 16 << 10;

#[derive(Args)]
pub(crate) struct Options {
    /// How many streams.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Of them, so many are written to and not read.
    #[arg(long, default_value_t = 100)]
    stalled: usize,
    /// Bytes of each that is read, kB.
    #[arg(long, default_value_t = 1000)]
    kilobytes: usize,
}

pub(crate) fn run(options: &Options) {
    let [near, far] = sockets();
    let both = Both::new();
    let theirs = both.clone();
    let (streams, stalled, each) = (options.streams, options.stalled, options.kilobytes * 1000);
    let reader = on_thread(move || async move {
        let flow = theirs.accept(far, Default::default()).await;
        let mut kept = Vec::new();
        for _ in 0..stalled {
            kept.push(flow.accept_stream().await.expect("a stream"));
        }
        // Filled first, so that only what is read counts.
        let full = stalled as u64 * u64::from(transport::quic::Options::default().stream_window);
        while flow.stats().bytes_received < full {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (watch, mut readers) = (Watch::start(), tokio::task::JoinSet::new());
        flow.send_message("go".into()).await.expect("sent");
        for _ in stalled..streams {
            let (send, recv) = flow.accept_stream().await.expect("a stream");
            readers.spawn(read(send, recv, each));
        }
        while let Some(done) = readers.join_next().await {
            done.expect("no panic");
        }
        let rate = watch.rate(((streams - stalled) * each) as u64);
        flow.close().await;
        rate
    });
    let writer = on_thread(move || async move {
        let flow = both.ask(near, Default::default()).await;
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..streams {
            if number == stalled {
                flow.recv_message().await.expect("the word");
            }
            let (send, recv) = flow.open_stream().await.expect("a stream");
            writers.spawn(write(send, recv, if number < stalled { usize::MAX } else { each }));
        }
        flow.closed().await;
        writers.join_all().await;
    });
    let (rate, cpu) = reader.join().expect("no panic");
    writer.join().expect("no panic");
    let line = serde_json::json!({
        "bench": "stalled", "streams": streams, "stalled": stalled, "gbit_s": rate, "cpu_s_per_gb": cpu,
    });
    println!("{line}");
}

async fn read(_send: SendHalf, mut recv: RecvHalf, each: usize) {
    let (mut chunk, mut got) = (vec![0; CHUNK], 0);
    while let Ok(len @ 1..) = recv.read(&mut chunk).await {
        got += len;
    }
    assert_eq!(got, each);
}

/// Writes until all is written, or the flow is over.
async fn write(mut send: SendHalf, _recv: RecvHalf, mut left: usize) {
    let chunk = vec![0x5a; CHUNK];
    while left > 0 {
        let len = left.min(CHUNK);
        if send.write_all(&chunk[..len]).await.is_err() {
            return;
        }
        left -= len;
    }
    send.finish().expect("finished");
}

//! Streams: bytes in order, ends told apart from breaks, many side by side.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transport::quic::{RecvHalf, SendHalf};
use transport::{Reason, StreamError};

use super::stage::{Scene, aside, bytes, flow, happens};

fn stream_error(error: std::io::Error) -> StreamError {
    error.downcast().unwrap()
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_ends_for_itself() {
    let (near, far) = flow().await;
    let payload = bytes(1 << 20);
    let echo = aside(async move {
        let (mut send, mut recv) = far.accept_stream().await.unwrap();
        let mut all = Vec::new();
        recv.read_to_end(&mut all).await.unwrap();
        // The other way is open still.
        send.write_all(&all).await.unwrap();
        send.shutdown().await.unwrap();
        assert_eq!(send.stopped().await, Ok(None));
        far
    });
    let (mut send, mut recv) = near.open_stream().await.unwrap();
    send.write_all(&payload).await.unwrap();
    send.finish().unwrap();
    assert_eq!(send.finish(), Err(StreamError::Finished));
    send.shutdown().await.unwrap();
    assert_eq!(send.write(b"x").await.unwrap_err().kind(), ErrorKind::NotConnected);
    let mut back = Vec::new();
    happens(recv.read_to_end(&mut back)).await.unwrap();
    assert!(back == payload);
    happens(echo).await.unwrap();
}

#[tokio::test]
async fn the_peer_learns_of_a_stream_before_its_first_byte() {
    let (near, far) = flow().await;
    let (_send, mut recv) = near.open_stream().await.unwrap();
    let (mut send, _recv) = happens(far.accept_stream()).await.unwrap();
    send.write_all(b"you first").await.unwrap();
    drop(send.finish());
    let mut text = String::new();
    happens(recv.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "you first");
}

#[tokio::test]
async fn a_reset_is_no_end() {
    let (near, far) = flow().await;
    for reason in [0, 7, u32::MAX] {
        let (mut send, _r) = near.open_stream().await.unwrap();
        send.write_all(b"some").await.unwrap();
        let (_s, mut recv) = happens(far.accept_stream()).await.unwrap();
        assert_eq!(happens(recv.read_u8()).await.unwrap(), b's');
        send.reset(Reason(reason));
        let mut rest = Vec::new();
        let error = happens(recv.read_to_end(&mut rest)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(stream_error(error), StreamError::Reset(Reason(reason)));
        assert_eq!(send.finish(), Err(StreamError::Finished));
        assert_eq!(send.stopped().await, Err(StreamError::Finished));
    }
}

#[tokio::test]
async fn a_dropped_half_is_reset_and_a_finished_one_is_not() {
    let (near, far) = flow().await;
    let (mut send, _r) = near.open_stream().await.unwrap();
    send.write_all(b"cut").await.unwrap();
    drop(send);
    let (_s, mut recv) = happens(far.accept_stream()).await.unwrap();
    let error = happens(recv.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(stream_error(error), StreamError::Reset(Reason(0)));
    let (mut send, _r2) = near.open_stream().await.unwrap();
    send.write_all(b"whole").await.unwrap();
    send.finish().unwrap();
    drop(send);
    let (_s2, mut recv) = happens(far.accept_stream()).await.unwrap();
    let mut text = String::new();
    happens(recv.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "whole");
}

#[tokio::test]
async fn who_reads_no_more_stops_the_writer() {
    let (near, far) = flow().await;
    let (mut send, _r) = near.open_stream().await.unwrap();
    let (_s, mut recv) = happens(far.accept_stream()).await.unwrap();
    recv.stop(Reason(9));
    assert_eq!(happens(send.stopped()).await, Ok(Some(Reason(9))));
    let error = send.write_all(b"x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert_eq!(stream_error(error), StreamError::Stopped(Reason(9)));
    assert_eq!(send.finish(), Err(StreamError::Stopped(Reason(9))));
    // And by being dropped.
    let (mut send, _r2) = near.open_stream().await.unwrap();
    let (_s2, recv) = happens(far.accept_stream()).await.unwrap();
    drop(recv);
    let endless = async {
        loop {
            if let Err(error) = send.write_all(&[0; 1000]).await {
                return stream_error(error);
            }
        }
    };
    assert_eq!(happens(endless).await, StreamError::Stopped(Reason(0)));
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_the_writer_and_memory_back() {
    let scene = Scene::new().options(|it| it.stream_window = 100_000);
    let (near, far) = scene.flow().await;
    let (mut send, _r) = near.open_stream().await.unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let writing = aside({
        let written = written.clone();
        async move {
            for _ in 0..50 {
                send.write_all(&[1; 10_000]).await.unwrap();
                written.fetch_add(10_000, Ordering::Relaxed);
            }
            send.finish().unwrap();
            send
        }
    });
    let (_s, mut recv) = happens(far.accept_stream()).await.unwrap();
    // A stream beside it is not held back, and its bytes come after what the first could send.
    let (mut other, _r2) = near.open_stream().await.unwrap();
    other.write_all(&bytes(90_000)).await.unwrap();
    other.finish().unwrap();
    let (_s2, mut beside) = happens(far.accept_stream()).await.unwrap();
    let mut got = Vec::new();
    happens(beside.read_to_end(&mut got)).await.unwrap();
    assert!(got == bytes(90_000));
    assert!(written.load(Ordering::Relaxed) <= 100_000, "{}", written.load(Ordering::Relaxed));
    assert!(!writing.is_finished());
    let mut all = Vec::new();
    happens(recv.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all.len(), 500_000);
    let _send = happens(writing).await.unwrap();
}

#[tokio::test]
async fn accepting_can_be_given_up() {
    let (near, far) = flow().await;
    for _ in 0..20 {
        let waiting = far.accept_stream();
        tokio::select! { biased; _ = waiting => panic!("nothing was opened"), () = tokio::task::yield_now() => {} }
    }
    let (mut send, _r) = near.open_stream().await.unwrap();
    send.write_all(b"kept").await.unwrap();
    send.finish().unwrap();
    let (_s, mut recv) = happens(far.accept_stream()).await.unwrap();
    let chunk = happens(recv.read_chunk(100)).await.unwrap().unwrap();
    assert_eq!(chunk, "kept");
    assert_eq!(happens(recv.read_chunk(100)).await, Ok(None));
}

#[tokio::test]
async fn there_are_1024_streams_at_once_also_after_many_and_then_one_waits() {
    let (near, far) = flow().await;
    let mut open: std::collections::VecDeque<[(SendHalf, RecvHalf); 2]> = Default::default();
    // 2,000 in all, of which the 1,024 last are open.
    for _ in 0..2000 {
        if open.len() == transport::quic::MAX_STREAMS as usize {
            let [(mut send, recv), (mut back, mut theirs)] = open.pop_front().unwrap();
            send.finish().unwrap();
            back.finish().unwrap();
            happens(theirs.read_to_end(&mut Vec::new())).await.unwrap();
            drop((recv, theirs, back, send));
        }
        open.push_back([happens(near.open_stream()).await.unwrap(), happens(far.accept_stream()).await.unwrap()]);
    }
    let a_while = std::time::Duration::from_millis(100);
    let more = async {
        for _ in 0..transport::quic::MAX_STREAMS {
            open.push_back([near.open_stream().await.unwrap(), far.accept_stream().await.unwrap()]);
        }
    };
    assert!(tokio::time::timeout(a_while, more).await.is_err(), "they are not bounded");
}

/// What passes on `streams` streams side by side, of which each tenth is not read if `stalled`.
async fn thousand(stalled: bool) -> usize {
    const STREAMS: usize = 1000;
    const EACH: usize = 20_000;
    let scene = Scene::new().options(|it| it.stream_window = 64 << 10);
    let (near, far) = scene.flow().await;
    let mut tasks = tokio::task::JoinSet::new();
    let mut kept: Vec<(SendHalf, RecvHalf)> = Vec::new();
    for number in 0..STREAMS {
        let (mut send, recv) = happens(near.open_stream()).await.unwrap();
        let (theirs_send, mut theirs) = happens(far.accept_stream()).await.unwrap();
        if stalled && number % 10 == 0 {
            // As much as the window takes; nobody reads it.
            happens(send.write_all(&vec![0; (64 << 10) - 1])).await.unwrap();
            kept.push((send, recv));
            kept.push((theirs_send, theirs));
            continue;
        }
        tasks.spawn(async move {
            send.write_all(&bytes(EACH)).await.unwrap();
            send.finish().unwrap();
            (send.stopped().await, 0)
        });
        tasks.spawn(async move {
            let _theirs_send = theirs_send;
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            assert!(all == bytes(EACH));
            (Ok(None), all.len())
        });
        drop(recv);
    }
    let mut total = 0;
    while let Some(done) = happens(tasks.join_next()).await {
        total += done.unwrap().1;
    }
    total
}

#[tokio::test]
async fn a_thousand_streams_side_by_side_with_and_without_a_hundred_stalled() {
    assert_eq!(thousand(false).await, 1000 * 20_000);
    assert_eq!(thousand(true).await, 900 * 20_000);
}

#[tokio::test]
async fn the_flow_knows_its_path_whatever_its_congestion_control() {
    for congestion in transport::Congestion::ALL {
        let scene = Scene::new().options(|it| it.congestion = congestion);
        let told = scene.sockets.clone();
        let (near, far) = scene.flow().await;
        let (mut send, _r) = near.open_stream().await.unwrap();
        let reading = aside(async move {
            let (_s, mut recv) = far.accept_stream().await.unwrap();
            let mut all = Vec::new();
            recv.read_to_end(&mut all).await.unwrap();
            (far, all.len())
        });
        send.write_all(&bytes(1 << 20)).await.unwrap();
        send.finish().unwrap();
        let (far, len) = happens(reading).await.unwrap();
        assert_eq!(len, 1 << 20);
        assert_eq!(happens(send.stopped()).await, Ok(None));
        let stats = near.stats();
        assert!(stats.rtt > std::time::Duration::ZERO && stats.congestion_window > 2000, "{stats:?}");
        assert!((1200..=1472).contains(&stats.mtu) && stats.bytes_sent > 1 << 20, "{stats:?}");
        assert!(stats.datagrams_sent > 700 && stats.datagrams_received > 10, "{stats:?}");
        // What the library counts is what went over the socket; it goes on meanwhile.
        let [sent, received] = [&told[0].sent, &told[1].received].map(|it| it.load(Ordering::Relaxed));
        assert!(sent >= stats.datagrams_sent && received <= sent, "{sent} {received} {stats:?}");
        assert!(far.stats().bytes_received > 1 << 20);
    }
}

//! Streams between two flows.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::error::{Over, Reason};

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_ends_for_itself() {
    let (a, b) = flows();
    let ((mut near_send, mut near_recv), (mut far_send, mut far_recv)) = stream(&a, &b).await;
    near_send.write_all(b"question").await.unwrap();
    near_send.finish().unwrap();
    assert_eq!(read_all(&mut far_recv).await, (b"question".to_vec(), Ok(())));
    // The end is read again.
    assert_eq!(read_all(&mut far_recv).await, (vec![], Ok(())));
    far_send.write_all(b"answer").await.unwrap();
    far_send.shutdown().await.unwrap();
    assert_eq!(read_all(&mut near_recv).await, (b"answer".to_vec(), Ok(())));
    assert_eq!(near_send.stopped().await, Ok(None));
    assert_eq!(near_send.finish(), Err(StreamError::Finished));
    assert_eq!(of(near_send.write(b"more").await.unwrap_err()), StreamError::Finished);
    near_send.shutdown().await.unwrap();
    let stats = a.stats();
    assert_eq!((stats.bytes_sent, stats.bytes_received, stats.datagrams_sent), (8, 6, 0));
}

#[tokio::test]
async fn a_stream_is_told_of_before_its_first_byte_and_either_side_opens_them() {
    let (a, b) = flows();
    let (_near, _far) = stream(&a, &b).await;
    let (_near, _far) = stream(&b, &a).await;
    assert!(at_once(b.accept_stream()).await.is_none());
}

#[tokio::test]
async fn a_reset_reads_as_one_and_so_does_a_half_that_is_dropped() {
    let (a, b) = flows();
    for (reason, drops) in [(Reason(7), false), (Reason(0), true)] {
        let ((mut near_send, _near_recv), (_far_send, mut far_recv)) = stream(&a, &b).await;
        near_send.write_all(b"half of").await.unwrap();
        if drops {
            drop(near_send);
        } else {
            near_send.reset(reason);
            assert_eq!(soon(near_send.stopped()).await, Err(StreamError::Finished));
            assert_eq!(near_send.finish(), Err(StreamError::Finished));
        }
        assert_eq!(read_all(&mut far_recv).await, (b"half of".to_vec(), Err(StreamError::Reset(reason))));
        assert_eq!(read_all(&mut far_recv).await, (vec![], Err(StreamError::Reset(reason))));
    }
}

#[tokio::test]
async fn a_reset_after_the_end_changes_nothing() {
    let (a, b) = flows();
    let ((mut near_send, _near_recv), (_far_send, mut far_recv)) = stream(&a, &b).await;
    near_send.write_all(b"all").await.unwrap();
    near_send.finish().unwrap();
    near_send.reset(Reason(7));
    drop(near_send);
    assert_eq!(read_all(&mut far_recv).await, (b"all".to_vec(), Ok(())));
}

#[tokio::test]
async fn a_stopped_stream_takes_no_more_bytes() {
    let (a, b) = flows();
    for (reason, drops) in [(Reason(9), false), (Reason(0), true)] {
        let ((mut near_send, near_recv), (far_send, mut far_recv)) = stream(&a, &b).await;
        near_send.write_all(b"unread").await.unwrap();
        if drops {
            drop(far_recv);
        } else {
            far_recv.stop(reason);
            assert_eq!(of(far_recv.read(&mut [0; 9]).await.unwrap_err()), StreamError::Finished);
        }
        assert_eq!(soon(near_send.stopped()).await, Ok(Some(reason)));
        assert_eq!(of(near_send.write(b"more").await.unwrap_err()), StreamError::Stopped(reason));
        assert_eq!(near_send.finish(), Err(StreamError::Stopped(reason)));
        drop((near_send, near_recv, far_send));
    }
}

#[tokio::test]
async fn a_writer_that_waits_for_room_hears_of_a_stop() {
    let (a, b) = flows();
    let ((mut near_send, _near_recv), (_far_send, mut far_recv)) = stream(&a, &b).await;
    fill(&mut near_send).await;
    let block = [7; 4096];
    let mut write = std::pin::pin!(near_send.write(&block));
    assert!(at_once(&mut write).await.is_none(), "the writer waits");
    far_recv.stop(Reason(5));
    assert_eq!(of(soon(write).await.unwrap_err()), StreamError::Stopped(Reason(5)));
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_its_writer_and_nobody_else() {
    let (a, b) = flows();
    let ((mut stalled, _r), (_s, mut unread)) = stream(&a, &b).await;
    let filled = fill(&mut stalled).await;
    assert!(filled < 4 << 20, "the kernel took {filled} bytes of one stream");
    let ((mut other, _r2), (_s2, mut read)) = stream(&a, &b).await;
    let bytes: Vec<u8> = (0..4_u32 << 20).map(|i| (i % 251) as u8).collect();
    let (_, (came, end)) = tokio::join!(
        async {
            other.write_all(&bytes).await.unwrap();
            other.finish().unwrap();
        },
        read_all(&mut read)
    );
    assert!(came == bytes && end == Ok(()));
    stalled.finish().unwrap();
    let (came, end) = read_all(&mut unread).await;
    assert_eq!((came.len(), end), (filled, Ok(())));
}

#[tokio::test]
async fn a_thousand_streams_end_in_any_order() {
    let (a, b) = flows();
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for i in 0..1000_u32 {
        let (mut send, recv) = soon(a.open_stream()).await.unwrap();
        send.write_all(&i.to_le_bytes()).await.unwrap();
        near.push((send, recv));
    }
    for _ in 0..1000 {
        far.push(soon(b.accept_stream()).await.unwrap());
    }
    for (send, _) in &mut near {
        send.finish().unwrap();
    }
    for (i, (send, recv)) in far.iter_mut().enumerate().rev() {
        assert_eq!(read_all(recv).await, ((i as u32).to_le_bytes().to_vec(), Ok(())));
        if i % 2 == 0 {
            send.write_all(b"even").await.unwrap();
            send.finish().unwrap();
        } else {
            send.reset(Reason(i as u32));
        }
    }
    for (i, (_, recv)) in near.iter_mut().enumerate() {
        let expected =
            if i % 2 == 0 { (b"even".to_vec(), Ok(())) } else { (vec![], Err(StreamError::Reset(Reason(i as u32)))) };
        assert_eq!(read_all(recv).await, expected);
    }
}

#[tokio::test]
async fn streams_beyond_the_bound_wait_for_others_to_end() {
    let (a, b) = flows();
    let mut near = Vec::new();
    for _ in 0..1024 {
        near.push(soon(a.open_stream()).await.unwrap());
    }
    assert!(at_once(a.open_stream()).await.is_none());
    // Over, but not taken by the other program.
    near.truncate(1000);
    assert!(at_once(a.open_stream()).await.is_none());
    let mut far = Vec::new();
    for _ in 0..1024 {
        far.push(soon(b.accept_stream()).await.unwrap());
    }
    drop(far.split_off(1000));
    for _ in 0..24 {
        near.push(soon(a.open_stream()).await.unwrap());
        far.push(soon(b.accept_stream()).await.unwrap());
    }
    assert!(at_once(a.open_stream()).await.is_none());
}

#[tokio::test]
async fn ten_times_the_bound_one_after_the_other() {
    let (a, b) = flows();
    let server = async {
        loop {
            let Ok((mut send, mut recv)) = b.accept_stream().await else { return };
            let (bytes, end) = read_all(&mut recv).await;
            end.unwrap();
            send.write_all(&bytes).await.unwrap();
            send.finish().unwrap();
        }
    };
    let client = async {
        for i in 0..10_240_u32 {
            let (mut send, mut recv) = a.open_stream().await.unwrap();
            send.write_all(&i.to_le_bytes()).await.unwrap();
            send.finish().unwrap();
            assert_eq!(read_all(&mut recv).await, (i.to_le_bytes().to_vec(), Ok(())));
        }
        a.close().await;
    };
    soon(async { tokio::join!(server, client) }).await;
}

#[tokio::test]
async fn a_cancelled_accept_loses_no_stream() {
    let (a, b) = flows();
    for i in 0..200_u32 {
        // Given up at every point it waits at, also just when the stream has come.
        let mut accept = Box::pin(b.accept_stream());
        assert!(at_once(&mut accept).await.is_none());
        let (mut send, _recv) = a.open_stream().await.unwrap();
        send.write_all(&i.to_le_bytes()).await.unwrap();
        send.finish().unwrap();
        if i % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(accept);
        let (_send, mut recv) = soon(b.accept_stream()).await.unwrap();
        assert_eq!(read_all(&mut recv).await, (i.to_le_bytes().to_vec(), Ok(())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_on_one_flow() {
    let (a, b) = flows();
    let server = tokio::spawn({
        let b = b.clone();
        async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((mut send, mut recv)) = b.accept_stream().await {
                tasks.spawn(async move {
                    tokio::io::copy(&mut recv, &mut send).await.unwrap();
                    send.finish().unwrap();
                });
            }
            tasks.join_all().await.len()
        }
    });
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8_u32 {
        let a = a.clone();
        clients.spawn(async move {
            for i in 0..50_u32 {
                let bytes: Vec<u8> = (0..i * 1000).map(|b| (b + client) as u8).collect();
                let (mut send, mut recv) = a.open_stream().await.unwrap();
                let write = async {
                    send.write_all(&bytes).await.unwrap();
                    send.finish().unwrap();
                };
                let (_, (came, end)) = tokio::join!(write, read_all(&mut recv));
                assert!(came == bytes && end == Ok(()), "client {client}, stream {i}: {} bytes, {end:?}", came.len());
            }
        });
    }
    soon(clients.join_all()).await;
    soon(a.close()).await;
    assert_eq!(soon(server).await.unwrap(), 400);
    assert_eq!(soon(b.closed()).await, Over::PeerClosed);
}

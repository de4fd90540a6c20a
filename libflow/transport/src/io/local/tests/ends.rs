//! How flows end, and what is still read then.

use bytes::Bytes;
use rustix::net::Shutdown;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::error::{MessageError, Over, Reason};

#[tokio::test]
async fn what_was_finished_before_the_close_arrives() {
    let (a, b) = flows();
    let (mut whole, _r) = a.open_stream().await.unwrap();
    let filled = fill(&mut whole).await;
    whole.finish().unwrap();
    let (mut part, _r) = a.open_stream().await.unwrap();
    part.write_all(b"part").await.unwrap();
    a.send_message(Bytes::from_static(b"last")).await.unwrap();
    soon(a.close()).await;
    assert_eq!(a.closed().await, Over::Closed);
    assert_eq!(of(part.write(b"more").await.unwrap_err()), StreamError::Over(Over::Closed));
    assert_eq!(a.open_stream().await.map(|_| ()), Err(StreamError::Over(Over::Closed)));
    assert_eq!(a.send_message(Bytes::from_static(b"x")).await, Err(MessageError::Over(Over::Closed)));

    assert_eq!(soon(b.closed()).await, Over::PeerClosed);
    let (mut back, mut recv) = soon(b.accept_stream()).await.unwrap();
    let (bytes, end) = read_all(&mut recv).await;
    assert_eq!((bytes.len(), end), (filled, Ok(())));
    assert_eq!(of(back.write(b"thanks").await.unwrap_err()), StreamError::Over(Over::PeerClosed));
    assert_eq!(back.finish(), Err(StreamError::Over(Over::PeerClosed)));
    let (_s, mut recv) = soon(b.accept_stream()).await.unwrap();
    assert_eq!(read_all(&mut recv).await, (b"part".to_vec(), Err(StreamError::Over(Over::PeerClosed))));
    assert_eq!(soon(b.recv_message()).await.unwrap(), "last");
    assert_eq!(soon(b.recv_message()).await, Err(MessageError::Over(Over::PeerClosed)));
    assert_eq!(soon(b.accept_stream()).await.map(|_| ()), Err(StreamError::Over(Over::PeerClosed)));
}

#[tokio::test]
async fn a_thousand_ends_that_the_socket_had_no_room_for_are_said_before_the_close() {
    let (a, b) = flows();
    let mut streams = Vec::new();
    for _ in 0..1000 {
        streams.push(stream(&a, &b).await);
    }
    let mut far = Vec::new();
    for ((mut send, recv), other) in streams {
        send.write_all(b"all").await.unwrap();
        send.finish().unwrap();
        far.push((recv, other));
    }
    soon(a.close()).await;
    for (_near, (_send, mut recv)) in far {
        assert_eq!(read_all(&mut recv).await, (b"all".to_vec(), Ok(())));
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes() {
    let (a, b) = flows();
    let (send, recv) = a.open_stream().await.unwrap();
    drop(a);
    drop(recv);
    // A half of a stream keeps the flow.
    let (_s, mut far) = soon(b.accept_stream()).await.unwrap();
    assert!(at_once(b.closed()).await.is_none());
    drop(send);
    assert_eq!(read_all(&mut far).await, (vec![], Err(StreamError::Reset(Reason(0)))));
    assert_eq!(soon(b.closed()).await, Over::PeerClosed);
}

#[tokio::test]
async fn an_aborted_flow_is_over_at_once() {
    let (a, b) = flows();
    let ((mut send, _r), (_s, mut far)) = stream(&a, &b).await;
    send.write_all(b"part").await.unwrap();
    a.abort();
    assert_eq!(at_once(a.closed()).await, Some(Over::Closed));
    assert_eq!(soon(b.closed()).await, Over::PeerClosed);
    assert_eq!(read_all(&mut far).await, (b"part".to_vec(), Err(StreamError::Over(Over::PeerClosed))));
}

#[tokio::test]
async fn the_daemon_s_shutdown_ends_it_and_what_was_finished_before_is_read() {
    let (one, two) = sockets();
    let daemon = one.try_clone().unwrap();
    let (a, b) = (Flow::new(one, LIMIT).unwrap(), Flow::new(two, LIMIT).unwrap());
    let ((mut whole, _r1), (_s1, mut whole_far)) = stream(&a, &b).await;
    let ((mut part, _r2), (_s2, mut part_far)) = stream(&a, &b).await;
    whole.write_all(b"whole").await.unwrap();
    whole.finish().unwrap();
    part.write_all(b"part").await.unwrap();
    rustix::net::shutdown(&daemon, Shutdown::Both).unwrap();
    assert_eq!(soon(a.closed()).await, Over::SocketClosed);
    assert_eq!(soon(b.closed()).await, Over::SocketClosed);
    assert_eq!(read_all(&mut whole_far).await, (b"whole".to_vec(), Ok(())));
    assert_eq!(read_all(&mut part_far).await, (b"part".to_vec(), Err(StreamError::Over(Over::SocketClosed))));
    assert_eq!(soon(part.stopped()).await, Err(StreamError::Over(Over::SocketClosed)));
}

#[tokio::test]
async fn everybody_who_waits_hears_of_the_end() {
    let (a, b) = flows();
    let ((mut full, mut empty), _far) = stream(&a, &b).await;
    fill(&mut full).await;
    while a.try_send_message(Bytes::from(vec![1; 1000])).is_ok() {
        tokio::task::yield_now().await;
    }
    let waits = async {
        tokio::join!(
            async { of(full.write_all(&[7; 1 << 20]).await.unwrap_err()) },
            async { read_all(&mut empty).await.1.unwrap_err() },
            async { a.accept_stream().await.map(|_| ()).unwrap_err() },
            async {
                let message = Bytes::from(vec![1; 1000]);
                loop {
                    if let Err(error) = a.send_message(message.clone()).await {
                        return error;
                    }
                }
            },
            a.recv_message(),
            a.closed(),
        )
    };
    let mut waits = std::pin::pin!(waits);
    for _ in 0..100 {
        assert!(at_once(&mut waits).await.is_none());
        tokio::task::yield_now().await;
    }
    soon(b.close()).await;
    let (write, read, accept, send, receive, closed) = soon(waits).await;
    let over = StreamError::Over(Over::PeerClosed);
    assert_eq!((&write, &read, &accept), (&over, &over, &over));
    let over = MessageError::Over(Over::PeerClosed);
    assert_eq!((send, receive, closed), (over.clone(), Err(over), Over::PeerClosed));
}

#[test]
fn a_stopped_runtime_ends_its_flows() {
    let (one, two) = sockets();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let a = here.block_on(async { Flow::new(one, LIMIT).unwrap() });
    let b = there.block_on(async { Flow::new(two, LIMIT).unwrap() });
    let (mut send, _recv) = here.block_on(a.open_stream()).unwrap();
    here.block_on(send.write_all(b"part")).unwrap();
    drop(here);
    drop((send, _recv, a));
    there.block_on(async {
        let (_s, mut recv) = soon(b.accept_stream()).await.unwrap();
        let (bytes, end) = read_all(&mut recv).await;
        assert!(bytes == b"part" && end.is_err(), "{end:?}");
    });
}

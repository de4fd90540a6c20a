//! The end of a flow: who is told what, and what still arrives.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transport::{MessageError, Over, StreamError};

use super::stage::{Scene, aside, bytes, flow, happens};

#[tokio::test]
async fn all_that_was_finished_arrives_before_the_end() {
    let (near, far) = flow().await;
    let payload = bytes(3 << 20);
    let reading = aside({
        let far = far.clone();
        async move {
            let mut all = Vec::new();
            while let Ok((_send, mut recv)) = far.accept_stream().await {
                let mut got = Vec::new();
                recv.read_to_end(&mut got).await.unwrap();
                all.push(got);
            }
            all
        }
    });
    for _ in 0..5 {
        let (mut send, _recv) = near.open_stream().await.unwrap();
        send.write_all(&payload).await.unwrap();
        send.finish().unwrap();
    }
    near.send_message("the last message".into()).await.unwrap();
    happens(near.close()).await;
    assert_eq!(happens(near.closed()).await, Over::Closed);
    assert_eq!(happens(far.closed()).await, Over::PeerClosed);
    let all = happens(reading).await.unwrap();
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|got| *got == payload));
    assert_eq!(far.try_recv_message().unwrap(), "the last message");
    assert_eq!(far.try_recv_message(), Err(MessageError::Over(Over::PeerClosed)));
}

#[tokio::test]
async fn what_arrived_is_read_after_the_end_and_what_was_not_finished_is_no_end() {
    let (near, far) = flow().await;
    let (mut finished, _r1) = near.open_stream().await.unwrap();
    let (mut open, _r2) = near.open_stream().await.unwrap();
    open.write_all(b"half of").await.unwrap();
    finished.write_all(b"all of it").await.unwrap();
    finished.finish().unwrap();
    happens(near.close()).await;
    assert_eq!(happens(far.closed()).await, Over::PeerClosed);
    let mut text = String::new();
    let (_s1, mut recv) = far.accept_stream().await.unwrap();
    recv.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "all of it");
    let (_s2, mut recv) = far.accept_stream().await.unwrap();
    let mut all = Vec::new();
    let error = recv.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(b"half of".starts_with(&all));
    let inner = error.downcast::<StreamError>().unwrap();
    assert_eq!(inner, StreamError::Over(Over::PeerClosed));
}

#[tokio::test]
async fn an_aborted_flow_is_over_at_once() {
    let (near, far) = flow().await;
    let (mut send, mut recv) = near.open_stream().await.unwrap();
    near.abort();
    assert_eq!(near.closed().await, Over::Closed);
    let error = send.write_all(b"x").await.unwrap_err().downcast::<StreamError>().unwrap();
    assert_eq!(error, StreamError::Over(Over::Closed));
    assert!(recv.read_u8().await.is_err());
    assert_eq!(near.send_message("x".into()).await, Err(MessageError::Over(Over::Closed)));
    assert!(matches!(near.open_stream().await, Err(StreamError::Over(Over::Closed))));
    assert_eq!(happens(far.closed()).await, Over::PeerClosed);
}

#[tokio::test]
async fn dropping_everything_ends_it_too() {
    let (near, far) = flow().await;
    let (send, recv) = near.open_stream().await.unwrap();
    drop(near);
    let (_send, mut theirs) = happens(far.accept_stream()).await.unwrap();
    drop((send, recv));
    let mut all = Vec::new();
    assert!(happens(theirs.read_to_end(&mut all)).await.is_err());
    assert_eq!(happens(far.closed()).await, Over::PeerClosed);
}

#[tokio::test]
async fn both_may_close_at_once() {
    let (near, far) = flow().await;
    happens(async { tokio::join!(near.close(), far.close()) }).await;
    assert_eq!(near.closed().await, Over::Closed);
    assert_eq!(far.closed().await, Over::Closed);
}

#[tokio::test]
async fn a_socket_shut_under_it_ends_both_calls_and_flow() {
    for (follow, side) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let mut scene = Scene::new();
        scene.accepting.follow = follow;
        let sockets = scene.sockets.clone();
        let (near, far) = scene.flow().await;
        let flow = [near, far][side].clone();
        let (mut send, recv) = flow.open_stream().await.unwrap();
        let accepting = aside({
            let flow = flow.clone();
            async move { flow.accept_stream().await.err() }
        });
        let messages = aside({
            let flow = flow.clone();
            async move { flow.recv_message().await }
        });
        // On a socket without a connection this says ENOTCONN, and shuts it.
        let _ = rustix::net::shutdown(&sockets[side].socket, rustix::net::Shutdown::Both);
        assert_eq!(happens(flow.closed()).await, Over::SocketClosed);
        assert_eq!(happens(accepting).await.unwrap(), Some(StreamError::Over(Over::SocketClosed)));
        assert_eq!(happens(messages).await.unwrap(), Err(MessageError::Over(Over::SocketClosed)));
        assert!(send.write_all(b"x").await.is_err());
        drop(recv);
        assert_eq!(sockets[side].closed.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_gone() {
    let scene = Scene::new().options(|it| {
        it.idle_timeout = std::time::Duration::from_millis(300);
        it.keep_alive = None;
    });
    let (near, far) = scene.flow().await;
    // Nobody says anything.
    assert_eq!(happens(near.closed()).await, Over::TimedOut);
    assert_eq!(happens(far.closed()).await, Over::TimedOut);
}

#[tokio::test]
async fn an_idle_flow_that_says_something_now_and_then_stays() {
    let scene = Scene::new().options(|it| {
        it.idle_timeout = std::time::Duration::from_millis(600);
        it.keep_alive = Some(std::time::Duration::from_millis(100));
    });
    let (near, far) = scene.flow().await;
    let silence = std::time::Duration::from_millis(1500);
    assert!(tokio::time::timeout(silence, near.closed()).await.is_err());
    near.send_message("still there".into()).await.unwrap();
    assert_eq!(happens(far.recv_message()).await.unwrap(), "still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_flows_end_in_every_way_at_any_moment() {
    for round in 0..60 {
        let scene = Scene::new();
        let sockets = scene.sockets.clone();
        let (near, far) = happens(scene.flow()).await;
        let mut tasks = tokio::task::JoinSet::new();
        for flow in [near.clone(), far.clone()] {
            for _ in 0..4 {
                let flow = flow.clone();
                tasks.spawn(async move {
                    let Ok((mut send, _recv)) = flow.open_stream().await else { return };
                    while send.write_all(&bytes(50_000)).await.is_ok() {}
                });
            }
            tasks.spawn(async move {
                let mut readers = tokio::task::JoinSet::new();
                while let Ok((_send, mut recv)) = flow.accept_stream().await {
                    readers.spawn(async move {
                        let _send = _send;
                        let mut buffer = vec![0; 30_000];
                        // Nobody finishes.
                        while recv.read(&mut buffer).await.is_ok_and(|len| len > 0) {}
                        assert!(recv.read(&mut buffer).await.is_err(), "a break was taken for an end");
                    });
                }
                readers.join_all().await;
            });
        }
        // Some bytes are under way.
        let (mut send, _recv) = happens(near.open_stream()).await.unwrap();
        send.write_all(&bytes(round * 1000)).await.unwrap();
        match round % 4 {
            0 => near.abort(),
            1 => happens(far.close()).await,
            2 => drop(rustix::net::shutdown(&sockets[0].socket, rustix::net::Shutdown::Both)),
            _ => drop(rustix::net::shutdown(&sockets[1].socket, rustix::net::Shutdown::Both)),
        }
        drop(send);
        if round % 4 >= 2 {
            // The other side's daemon tells it so; there is none here.
            let _ = [&near, &far][round % 4 - 2].closed().await;
            [&near, &far][3 - round % 4].abort();
        }
        happens(tasks.join_all()).await;
    }
}

//! Messages: whole or not at all.

use bytes::Bytes;
use transport::{MessageError, Over};

use super::stage::{Scene, bytes, flow, happens};

#[tokio::test]
async fn they_go_both_ways_up_to_the_limit() {
    let (near, far) = flow().await;
    for flow in [(&near, &far), (&far, &near)] {
        let limit = flow.0.message_limit();
        assert!((1100..=1472).contains(&limit), "{limit}");
        for len in [1, 2, 100, limit] {
            let sent = Bytes::from(bytes(len));
            happens(flow.0.send_message(sent.clone())).await.unwrap();
            assert_eq!(happens(flow.1.recv_message()).await.unwrap(), sent);
        }
    }
}

#[tokio::test]
async fn too_long_and_empty_ones_are_refused() {
    let (near, _far) = flow().await;
    assert_eq!(near.send_message(Bytes::new()).await, Err(MessageError::Empty));
    assert_eq!(near.try_send_message(Bytes::new()), Err(MessageError::Empty));
    let len = 2000;
    for tried in [near.send_message(bytes(len).into()).await, near.try_send_message(bytes(len).into())] {
        let Err(MessageError::TooLong { limit, len: 2000 }) = tried else { panic!("{tried:?}") };
        assert!((1100..2000).contains(&limit), "{limit}");
    }
}

#[tokio::test]
async fn nothing_there_is_no_wait() {
    let (near, far) = flow().await;
    assert_eq!(near.try_recv_message(), Err(MessageError::WouldBlock));
    far.try_send_message("now".into()).unwrap();
    assert_eq!(happens(near.recv_message()).await.unwrap(), "now");
    assert_eq!(near.try_recv_message(), Err(MessageError::WouldBlock));
}

#[tokio::test]
async fn a_full_queue_says_so() {
    let (near, far) = flow().await;
    let message = Bytes::from(bytes(1000));
    // On a runtime of one thread nothing leaves while this task does not wait.
    let queued = (0..10_000).position(|_| near.try_send_message(message.clone()) == Err(MessageError::WouldBlock));
    assert!((100..1000).contains(&queued.expect("it fills")), "{queued:?}");
    // Waiting finds room, and the messages come.
    happens(near.send_message(message.clone())).await.unwrap();
    assert_eq!(happens(far.recv_message()).await.unwrap(), message);
}

#[tokio::test]
async fn of_what_nobody_reads_the_newest_stay() {
    let scene = Scene::new().options(|it| it.message_window = 100_000);
    let (near, far) = scene.flow().await;
    for number in 0..1000u32 {
        let mut message = bytes(1000);
        message[..4].copy_from_slice(&number.to_be_bytes());
        happens(near.send_message(message.into())).await.unwrap();
    }
    happens(near.close()).await;
    assert_eq!(happens(far.closed()).await, Over::PeerClosed);
    let mut came = Vec::new();
    while let Ok(message) = far.try_recv_message() {
        came.push(u32::from_be_bytes(message[..4].try_into().unwrap()));
    }
    assert!(came.len() <= 100 && came.len() > 50, "{} kept", came.len());
    assert_eq!(came.last(), Some(&999));
    assert!(came.is_sorted());
}

#[tokio::test]
async fn waiting_for_one_can_be_given_up() {
    let (near, far) = flow().await;
    for _ in 0..20 {
        let waiting = far.recv_message();
        tokio::select! { biased; _ = waiting => panic!("nothing was sent"), () = tokio::task::yield_now() => {} }
    }
    near.send_message("kept".into()).await.unwrap();
    assert_eq!(happens(far.recv_message()).await.unwrap(), "kept");
}

//! Messages between two flows.

use bytes::Bytes;

use super::*;
use crate::error::{MessageError, Over};

#[tokio::test]
async fn messages_arrive_whole_and_in_order() {
    let (a, b) = flows();
    assert_eq!(a.message_limit(), LIMIT - 1);
    let longest = Bytes::from(vec![3; LIMIT - 1]);
    for message in [Bytes::from_static(b"x"), Bytes::from_static(&[0; 100]), longest.clone()] {
        soon(a.send_message(message.clone())).await.unwrap();
        assert_eq!(soon(b.recv_message()).await, Ok(message.clone()));
        soon(b.send_message(message.clone())).await.unwrap();
        assert_eq!(soon(a.recv_message()).await, Ok(message));
    }
    assert_eq!(a.send_message(Bytes::new()).await, Err(MessageError::Empty));
    let long = Bytes::from(vec![3; LIMIT]);
    let too_long = Err(MessageError::TooLong { limit: LIMIT - 1, len: LIMIT });
    assert_eq!(a.send_message(long.clone()).await, too_long);
    assert_eq!(a.try_send_message(long), too_long);
    assert_eq!(b.try_recv_message(), Err(MessageError::WouldBlock));
    a.try_send_message(longest.clone()).unwrap();
    assert_eq!(b.try_recv_message(), Ok(longest));
    let stats = a.stats();
    assert_eq!((stats.datagrams_sent, stats.datagrams_received), (4, 3));
    assert_eq!(stats.bytes_sent - stats.bytes_received, LIMIT as u64 - 1);
}

#[tokio::test]
async fn a_sender_waits_for_a_reader_and_no_message_is_lost() {
    let (a, b) = flows();
    let mut sent = 0_u32;
    while a.try_send_message(Bytes::from(sent.to_le_bytes().to_vec())).is_ok() {
        sent += 1;
    }
    assert!((100..10_000).contains(&sent), "{sent} messages found room");
    // Whether the kernel or the window was full: once the peer's task has read, the window is.
    let mut waiting = Box::pin(a.send_message(Bytes::from_static(b"waits")));
    let mut streams = Vec::new();
    for _ in 0..100 {
        // Streams go on meanwhile.
        let ((mut send, _r), (_s, mut recv)) = stream(&a, &b).await;
        send.finish().unwrap();
        assert_eq!(read_all(&mut recv).await, (vec![], Ok(())));
        streams.push((send, recv));
        if at_once(&mut waiting).await.is_some() {
            sent += 1;
            waiting = Box::pin(a.send_message(Bytes::from_static(b"waits")));
        }
    }
    for _ in 0..sent {
        soon(b.recv_message()).await.unwrap();
    }
    soon(waiting).await.unwrap();
    assert_eq!(soon(b.recv_message()).await.unwrap(), "waits");
    assert_eq!(b.try_recv_message(), Err(MessageError::WouldBlock));
}

#[tokio::test]
async fn unread_messages_are_bounded() {
    let (a, b) = flows();
    let (mut sent, block) = (0, Bytes::from(vec![1; 1000]));
    // Until neither the window nor, once the peer's task has had its turns, the kernel has room.
    for _ in 0..1000 {
        while a.try_send_message(block.clone()).is_ok() {
            sent += 1;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(sent, 512 * 1024 / 1064);
    drop(b);
}

#[tokio::test]
async fn a_stream_of_messages_both_ways_at_once() {
    let (a, b) = flows();
    let pump = |from: Flow, to: Flow| async move {
        let send = async {
            for i in 0..20_000_u32 {
                from.send_message(Bytes::from(vec![i as u8; 1 + i as usize % 3000])).await.unwrap();
            }
        };
        let receive = async {
            for i in 0..20_000_u32 {
                let message = to.recv_message().await.unwrap();
                assert!(message.len() == 1 + i as usize % 3000 && message.iter().all(|b| *b == i as u8), "message {i}");
            }
        };
        tokio::join!(send, receive)
    };
    soon(async { tokio::join!(pump(a.clone(), b.clone()), pump(b, a)) }).await;
}

#[tokio::test]
async fn a_cancelled_receive_loses_no_message() {
    let (a, b) = flows();
    for i in 0..200_u32 {
        let mut receive = Box::pin(b.recv_message());
        assert!(at_once(&mut receive).await.is_none());
        a.send_message(Bytes::from(i.to_le_bytes().to_vec())).await.unwrap();
        if i % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(receive);
        assert_eq!(soon(b.recv_message()).await.unwrap(), &i.to_le_bytes()[..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_receivers_share_the_messages() {
    let (a, b) = flows();
    let mut receivers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let b = b.clone();
        receivers.spawn(async move {
            let mut sum = 0;
            loop {
                match b.recv_message().await {
                    Ok(message) => sum += u64::from_le_bytes(message[..].try_into().unwrap()),
                    Err(error) => return (sum, error),
                }
            }
        });
    }
    for i in 0..10_000_u64 {
        a.send_message(Bytes::from(i.to_le_bytes().to_vec())).await.unwrap();
    }
    soon(a.close()).await;
    let sums = soon(receivers.join_all()).await;
    assert!(sums.iter().all(|(_, error)| *error == MessageError::Over(Over::PeerClosed)));
    assert_eq!(sums.iter().map(|(sum, _)| sum).sum::<u64>(), 9_999 * 10_000 / 2);
}

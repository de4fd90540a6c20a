//! Flows over plain sockets, without daemons: what the data path does, and the traps by their names.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};

use crate::io::core::{Core, Note, Outside};
use crate::{Batch, Counters, EndReason, Flow, FlowError, blocking};

const DEADLINE: Duration = Duration::from_secs(10);
const LIMIT: u32 = 1472;

fn flow(fd: impl Into<OwnedFd>) -> Flow {
    Flow::delivered(Arc::new(Core::unmanaged(fd.into(), LIMIT, None).unwrap()), Default::default())
}

/// A flow whose notes the test reads in the place of a lease.
fn linked(fd: impl Into<OwnedFd>, outside: &Arc<Outside>) -> Flow {
    Flow::delivered(Arc::new(Core::unmanaged(fd.into(), LIMIT, Some(outside.clone())).unwrap()), Default::default())
}

#[expect(clippy::disallowed_methods, reason = "these tests are about sockets")]
fn udp_at(address: &str) -> (UdpSocket, UdpSocket) {
    let (a, b) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&b, 4 << 20).unwrap();
    (a, b)
}

fn udp() -> (UdpSocket, UdpSocket) {
    udp_at("127.0.0.1:0")
}

fn local() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("nothing happened within the deadline")
}

fn gone(error: FlowError) -> EndReason {
    match error {
        FlowError::Gone(reason) => reason,
        other => panic!("not gone: {other}"),
    }
}

/// SDU number `n`, of `size` bytes.
fn sdu(n: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| (n * 31 + i) as u8).collect()
}

#[tokio::test]
async fn sdus_arrive_whole_and_are_counted() {
    for (a, b) in [udp(), udp_at("[::1]:0")] {
        let (a, b) = (flow(a), flow(b));
        let mut buffer = [0; 2000];
        for size in [1, 100, 1472] {
            within(a.send(&sdu(size, size))).await.unwrap();
            assert_eq!(within(b.recv(&mut buffer)).await.unwrap(), size);
            assert_eq!(buffer[..size], sdu(size, size));
        }
        let want = Counters { sdus_sent: 3, bytes_sent: 1573, ..Default::default() };
        assert_eq!(a.stats(), want);
        let want = Counters { sdus_received: 3, bytes_received: 1573, ..Default::default() };
        assert_eq!(b.stats(), want);
    }
}

#[tokio::test]
async fn empty_too_long_and_truncated_sdus_are_errors() {
    let (a, b) = udp();
    let (a, b) = (flow(a), flow(b));
    assert!(matches!(a.send(&[]).await, Err(FlowError::Empty)));
    assert!(matches!(a.send(&[0; 1473]).await, Err(FlowError::TooLong { limit: 1472, len: 1473 })));
    assert!(matches!(a.send_batch(&[0; 4000], 2000).await, Err(FlowError::TooLong { limit: 1472, len: 2000 })));
    assert!(matches!(a.send_batch(&[0; 10], 0).await, Err(FlowError::Empty)));
    assert!(matches!(a.send_batch(&[], 10).await, Err(FlowError::Empty)));
    within(a.send(b"twelve bytes")).await.unwrap();
    within(a.send(b"next")).await.unwrap();
    let mut small = [0; 5];
    assert!(matches!(within(b.recv(&mut small)).await, Err(FlowError::Truncated { len: 12, room: 5 })));
    assert_eq!(within(b.recv(&mut small)).await.unwrap(), 4);
    assert_eq!(b.stats().receive_errors, 1);
    assert_eq!(a.stats().send_errors, 2);
}

#[tokio::test]
async fn emsgsize_asks_for_the_mtu_again() {
    for (address, want) in [("127.0.0.1:0", 65_507), ("[::1]:0", 65_487)] {
        let (a, _b) = udp_at(address);
        // The path was wider once.
        let a = Flow::delivered(Arc::new(Core::unmanaged(a.into(), 70_000, None).unwrap()), Default::default());
        let error = a.send(&[0; 66_000]).await.unwrap_err();
        assert!(matches!(error, FlowError::TooLong { limit, len: 66_000 } if limit == want), "{error}");
        assert_eq!(a.sdu_limit(), want);
    }
}

/// facts: a zero-length datagram is no SDU, and no end of file either.
#[tokio::test]
async fn an_empty_datagram_is_not_delivered() {
    let (a, b) = udp();
    a.send(&[]).unwrap();
    a.send(b"x").unwrap();
    let b = flow(b);
    let mut buffer = [0; 9];
    assert_eq!(within(b.recv(&mut buffer)).await.unwrap(), 1);
    a.send(&[]).unwrap();
    a.send(b"yy").unwrap();
    assert_eq!(blocking::Flow::from(b).recv(&mut buffer).unwrap(), 2);
}

async fn batches(a: Flow, b: Flow, size: usize) {
    const SDUS: usize = 700;
    let mut bytes: Vec<u8> = (0..SDUS).flat_map(|n| sdu(n, size)).collect();
    bytes.truncate(bytes.len() - size / 2);
    let mut got = Vec::new();
    let mut batch = Batch::new();
    let receive = async {
        while got.len() < SDUS {
            let sdus = b.recv_batch(&mut batch).await.unwrap();
            assert_eq!(sdus, batch.len());
            got.extend(batch.iter().map(<[u8]>::to_vec));
        }
    };
    let (sent, ()) = within(async { tokio::join!(a.send_batch(&bytes, size), receive) }).await;
    assert_eq!(sent.unwrap(), SDUS);
    for (n, got) in got.iter().enumerate() {
        let len = if n == SDUS - 1 { size - size / 2 } else { size };
        assert_eq!(*got, sdu(n, size)[..len], "SDU {n} of {size} bytes");
    }
    let (sent, received) = (a.stats(), b.stats());
    assert_eq!((sent.sdus_sent, sent.bytes_sent), (SDUS as u64, bytes.len() as u64));
    assert_eq!((received.sdus_received, received.bytes_received), (SDUS as u64, bytes.len() as u64));
}

#[tokio::test]
async fn batches_keep_the_boundaries_of_sdus() {
    for size in [1, 64, 1000, 1472] {
        let (a, b) = udp();
        batches(flow(a), flow(b), size).await;
        let (a, b) = local();
        batches(flow(a), flow(b), size).await;
    }
}

#[tokio::test]
async fn batches_go_without_segmentation_where_there_is_none() {
    let (a, b) = udp();
    let a = flow(a);
    a.core().unsegmented.store(true, Ordering::Relaxed);
    batches(a, flow(b), 500).await;
}

/// facts: with UDP_GRO on, one receive brings several SDUs.
#[tokio::test]
async fn a_plain_receive_after_a_batch_returns_single_sdus() {
    let (a, b) = udp();
    let (a, b) = (flow(a), flow(b));
    let mut batch = Batch::new();
    within(a.send(b"first")).await.unwrap();
    within(b.recv_batch(&mut batch)).await.unwrap();
    within(a.send_batch(b"aaabbbcccd", 3)).await.unwrap();
    let mut buffer = [0; 1500];
    for want in [&b"aaa"[..], b"bbb"] {
        let len = within(b.recv(&mut buffer)).await.unwrap();
        assert_eq!(&buffer[..len], want);
    }
    // What is left comes with the next batch.
    assert_eq!(within(b.recv_batch(&mut batch)).await.unwrap(), 2);
    assert_eq!(batch.iter().collect::<Vec<_>>(), [&b"ccc"[..], b"d"]);
    assert_eq!(b.stats().sdus_received, 5);
    assert_eq!(b.stats().bytes_received, 15);
    let blocking = blocking::Flow::from(b);
    within(a.send_batch(b"xxxyy", 3)).await.unwrap();
    assert_eq!(blocking.recv(&mut buffer).unwrap(), 3);
    assert_eq!(blocking.recv_within(&mut buffer, DEADLINE).unwrap(), 2);
    assert!(matches!(blocking.recv_within(&mut buffer, Duration::from_millis(1)), Err(FlowError::TimedOut(_))));
}

/// facts: after shutdown a non-blocking receive says EAGAIN, and tokio's UdpSocket::recv spins on it.
#[tokio::test]
async fn eof_after_shutdown_ends_a_waiting_receive_and_does_not_spin() {
    for batched in [false, true] {
        let (a, b) = udp();
        let daemon = b.try_clone().unwrap();
        let (a, b) = (flow(a), flow(b));
        within(a.send(b"queued")).await.unwrap();
        let mut buffer = [0; 100];
        let mut batch = Batch::new();
        let receive =
            async { if batched { b.recv_batch(&mut batch).await.map(|_| 6) } else { b.recv(&mut buffer).await } };
        assert_eq!(within(receive).await.unwrap(), 6);
        let receive = async { if batched { b.recv_batch(&mut batch).await } else { b.recv(&mut buffer).await } };
        let shut = async {
            tokio::task::yield_now().await;
            within(a.send(b"last")).await.unwrap();
            tokio::task::yield_now().await;
            rustix::net::shutdown(&daemon, Shutdown::Both).unwrap();
        };
        let (last, ()) = within(async { tokio::join!(receive, shut) }).await;
        last.expect("what was queued is read first");
        assert_eq!(gone(within(b.recv(&mut buffer)).await.unwrap_err()), EndReason::Unknown);
        assert_eq!(gone(b.try_recv(&mut buffer).unwrap_err()), EndReason::Unknown);
        assert_eq!(gone(within(b.send(b"x")).await.unwrap_err()), EndReason::Unknown);
    }
}

#[test]
fn shutdown_ends_a_blocked_receive() {
    let (_a, b) = udp();
    let daemon = b.try_clone().unwrap();
    let b = blocking::Flow::from(flow(b));
    let waiting = std::thread::Builder::new().spawn(move || b.recv(&mut [0; 10])).unwrap();
    rustix::net::shutdown(&daemon, Shutdown::Both).unwrap();
    assert_eq!(gone(waiting.join().unwrap().unwrap_err()), EndReason::Unknown);
}

#[tokio::test]
async fn a_local_peer_that_ends_is_gone_once_its_sdus_are_read() {
    let (a, b) = local();
    let (a, b) = (flow(a), flow(b));
    within(a.send(b"last words")).await.unwrap();
    within(b.send(b"unread")).await.unwrap();
    drop(a);
    let mut buffer = [0; 100];
    assert_eq!(within(b.recv(&mut buffer)).await.unwrap(), 10);
    assert_eq!(gone(within(b.recv(&mut buffer)).await.unwrap_err()), EndReason::Unknown);
    assert_eq!(gone(within(b.send(b"x")).await.unwrap_err()), EndReason::Unknown);
}

#[tokio::test]
async fn after_gone_the_queue_is_drained_then_the_reason_is_told() {
    let (a, b) = udp();
    let daemon = b.try_clone().unwrap();
    let outside = Arc::new(Outside::default());
    let (a, b) = (flow(a), linked(b, &outside));
    within(a.send(b"queued")).await.unwrap();
    b.core().end(EndReason::PeerDied);
    b.core().end(EndReason::Admin);
    assert_eq!(gone(b.send(b"x").await.unwrap_err()), EndReason::PeerDied, "at once");
    rustix::net::shutdown(&daemon, Shutdown::Both).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(within(b.recv(&mut buffer)).await.unwrap(), 6);
    assert_eq!(gone(within(b.recv(&mut buffer)).await.unwrap_err()), EndReason::PeerDied, "the first reason stands");
    assert!(outside.take_notes().is_empty(), "the lease need not look for a reason");
}

#[tokio::test]
async fn a_closed_socket_waits_for_its_reason() {
    let (_a, b) = udp();
    let daemon = b.try_clone().unwrap();
    let outside = Arc::new(Outside::default());
    let b = Arc::new(linked(b, &outside));
    rustix::net::shutdown(&daemon, Shutdown::Both).unwrap();
    let mut buffer = [0; 100];
    assert!(matches!(b.try_recv(&mut buffer), Err(FlowError::WouldBlock)), "the reason is on its way");
    assert!(matches!(outside.take_notes()[..], [Note::FoundClosed(crate::FlowId(7))]));
    let reason = async {
        tokio::task::yield_now().await;
        b.core().end(EndReason::PeerTimedOut);
    };
    let (received, ()) = within(async { tokio::join!(b.recv(&mut buffer), reason) }).await;
    assert_eq!(gone(received.unwrap_err()), EndReason::PeerTimedOut);
}

/// facts: ICMP port unreachable is ECONNREFUSED once, and wakes a blocked receive.
#[tokio::test]
async fn econnrefused_is_a_suspicion_and_not_the_end() {
    let (a, b) = udp();
    let (here, there) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    let outside = Arc::new(Outside::default());
    let a = linked(a, &outside);
    drop(b);
    within(a.send(b"one")).await.unwrap();
    // The answer of the loopback is there when the send returns: the next calls must not fail because of it.
    within(a.send(b"two")).await.unwrap();
    let mut buffer = [0; 100];
    assert!(matches!(a.try_recv(&mut buffer), Err(FlowError::WouldBlock)));
    assert!(matches!(outside.take_notes()[..], [Note::Suspect(crate::FlowId(7))]), "told once until it is passed on");
    // The peer was only restarted: the flow goes on.
    #[expect(clippy::disallowed_methods, reason = "these tests are about sockets")]
    let b = UdpSocket::bind(there).unwrap();
    b.connect(here).unwrap();
    b.send(b"back").unwrap();
    assert_eq!(within(a.recv(&mut buffer)).await.unwrap(), 4);
    within(a.send(b"three")).await.unwrap();
}

#[tokio::test]
async fn a_send_waits_for_room() {
    let (a, b) = local();
    let (a, b) = (flow(a), flow(b));
    let mut sent = 0;
    while a.try_send(&[0; 1000]).is_ok() {
        sent += 1;
    }
    let send = a.send(&[0; 1000]);
    let mut buffer = [0; 1000];
    let drain = async {
        for _ in 0..=sent {
            b.recv(&mut buffer).await.unwrap();
        }
    };
    let (sent, ()) = within(async { tokio::join!(send, drain) }).await;
    sent.unwrap();
}

#[tokio::test]
async fn dealloc_and_drop_release_once() {
    for by_drop in [false, true] {
        let (a, _b) = local();
        let outside = Arc::new(Outside::default());
        let a = linked(a, &outside);
        if by_drop {
            drop(a);
        } else {
            // Nobody writes the packet here: it must be waited for.
            let mut dealloc = Box::pin(a.dealloc());
            assert!(tokio::time::timeout(Duration::from_millis(1), &mut dealloc).await.is_err());
        }
        let notes = outside.take_notes();
        assert!(matches!(notes[..], [Note::Released { flow: crate::FlowId(7), said: false, .. }]));
    }
}

#[test]
fn ending_a_flow_ends_the_calls_of_others() {
    for (a, _b) in [local(), {
        let (a, b) = udp();
        (a.into(), b.into())
    }] {
        let a = Arc::new(blocking::Flow::from(flow(a)));
        let other = a.clone();
        let waiting = std::thread::Builder::new().spawn(move || other.recv(&mut [0; 10])).unwrap();
        a.end();
        assert_eq!(gone(waiting.join().unwrap().unwrap_err()), EndReason::Deallocated);
        assert_eq!(gone(a.send(b"x").unwrap_err()), EndReason::Deallocated);
    }
}

#[test]
fn blocking_calls_end_with_their_time() {
    let (a, b) = udp();
    let (a, b) = (blocking::Flow::from(flow(a)), blocking::Flow::from(flow(b)));
    let mut buffer = [0; 100];
    let short = Duration::from_millis(2);
    assert!(matches!(b.recv_within(&mut buffer, short), Err(FlowError::TimedOut(d)) if d == short));
    assert!(matches!(b.recv_batch_within(&mut Batch::new(), short), Err(FlowError::TimedOut(_))));
    a.send(b"x").unwrap();
    assert_eq!(b.recv_within(&mut buffer, DEADLINE).unwrap(), 1);
    let (a, _b) = local();
    let a = blocking::Flow::from(flow(a));
    let full = loop {
        if let Err(error) = a.send_within(&[0; 1000], short) {
            break error;
        }
    };
    assert!(matches!(full, FlowError::TimedOut(_)));
}

/// What a program does that only knows the descriptor.
#[test]
fn the_bare_descriptor_works() {
    let (a, b) = udp();
    let (a, b) = (flow(a), flow(b));
    assert_eq!(rustix::io::write(a.as_fd(), b"plain").unwrap(), 5);
    let mut buffer = [0; 10];
    assert_eq!(rustix::io::read(b.as_fd(), &mut buffer).unwrap(), 5);
    let flags = rustix::fs::fcntl_getfl(a.as_fd()).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "the daemon shares the file description");
}

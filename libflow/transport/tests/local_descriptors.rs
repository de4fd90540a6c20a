//! A program without descriptors, and none left over. One test alone in its process: it counts them and lowers the limit.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::StreamError;
use transport::local::Flow;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn flows() -> (Flow, Flow) {
    let (a, b): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    (Flow::new(Arc::new(a), 65_536).unwrap(), Flow::new(Arc::new(b), 65_536).unwrap())
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("within a minute")
}

/// Streams that end in every way, and a flow that does.
async fn life(abort: bool) {
    let (a, b) = flows();
    for i in 0..100 {
        let (mut send, mut recv) = soon(a.open_stream()).await.unwrap();
        let (mut far_send, mut far_recv) = soon(b.accept_stream()).await.unwrap();
        send.write_all(b"some bytes").await.unwrap();
        match i % 4 {
            0 => send.finish().unwrap(),
            1 => recv.stop(transport::Reason(1)),
            2 => drop(far_recv.read(&mut [0; 4]).await),
            _ => far_send.finish().unwrap(),
        }
    }
    // Left untaken.
    for _ in 0..10 {
        soon(a.open_stream()).await.unwrap();
    }
    if abort {
        a.abort();
    } else {
        soon(a.close()).await;
    }
    soon(b.closed()).await;
}

#[tokio::test]
async fn a_program_without_descriptors_says_so_and_none_is_left_over() {
    life(false).await;
    let before = settled(0).await;
    for i in 0..10 {
        life(i % 2 == 0).await;
    }
    assert_eq!(settled(before).await, before);

    let (a, b) = flows();
    let first = soon(a.open_stream()).await.unwrap();
    let first_far = soon(b.accept_stream()).await.unwrap();
    let limit = getrlimit(Resource::Nofile);
    // Room for one more stream's two ends here, but then not for the one that the accepting program gets.
    let room = open_descriptors() as u64 - 1 + 2;
    let lowered = Rlimit { current: Some(room), ..limit };
    setrlimit(Resource::Nofile, lowered).unwrap();
    // One end stays, the other leaves with OPEN: each stream that is opened costs one here until no more can be.
    let mut opened = Vec::new();
    let error = loop {
        match soon(a.open_stream()).await {
            Ok(stream) => opened.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(error, StreamError::NoDescriptor);
    // In one process both programs share the limit: what was opened may have arrived or not.
    let mut lost = 0;
    let mut far = Vec::new();
    for _ in 0..opened.len() {
        match soon(b.accept_stream()).await {
            Ok(stream) => far.push(stream),
            Err(StreamError::NoDescriptor) => lost += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(lost > 0, "{} of {} streams arrived", far.len(), opened.len());
    let mut refused = 0;
    for (send, recv) in &mut opened {
        let mut bytes = Vec::new();
        if send.write(b"x").await.is_ok() {
            continue;
        }
        let error = soon(recv.read_to_end(&mut bytes)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
        refused += 1;
    }
    assert_eq!(refused, lost);
    setrlimit(Resource::Nofile, limit).unwrap();

    // The flow goes on.
    drop((opened, far));
    let (mut send, _recv) = soon(a.open_stream()).await.unwrap();
    send.write_all(b"and on").await.unwrap();
    send.finish().unwrap();
    let (_send, mut recv) = soon(b.accept_stream()).await.unwrap();
    let mut bytes = Vec::new();
    soon(recv.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, b"and on");
    drop((first, first_far, send, _recv, _send, recv));
    drop((a, b));
    assert_eq!(settled(before).await, before);
}

/// Descriptors once the flows' tasks have had their turns.
async fn settled(at_most: usize) -> usize {
    for _ in 0..1000 {
        if open_descriptors() <= at_most {
            break;
        }
        tokio::task::yield_now().await;
    }
    open_descriptors()
}

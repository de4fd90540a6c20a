//! A program without descriptors, and none left over. One test alone in its process: it counts them and lowers the limit.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::StreamError;
use transport::local::Flow;

/// The lowered limit: above what the test harness holds.
const HIGHEST: u64 = 200;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn sockets() -> (Arc<OwnedFd>, Arc<OwnedFd>) {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    (Arc::new(a), Arc::new(b))
}

fn flows() -> (Flow, Flow) {
    let (a, b) = sockets();
    (Flow::new(a, 65_536).unwrap(), Flow::new(b, 65_536).unwrap())
}

/// Takes every descriptor below the limit: whatever was inherited, whatever holes there are.
fn fill() -> Vec<File> {
    let mut taken = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{error}");
                return taken;
            }
        }
    }
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

    // What opens has room; what accepts begins when there is room for one stream only, so that the others are lost.
    let (near, far_end) = sockets();
    let a = Flow::new(near, 65_536).unwrap();
    let mut opened = Vec::new();
    for _ in 0..3 {
        opened.push(soon(a.open_stream()).await.unwrap());
    }
    let limit = getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: Some(HIGHEST), ..limit };
    setrlimit(Resource::Nofile, lowered).unwrap();
    let mut taken = fill();
    assert_eq!(soon(a.open_stream()).await.err(), Some(StreamError::NoDescriptor));
    taken.pop().expect("one descriptor was free before");
    let b = Flow::new(far_end, 65_536).unwrap();
    let far = [soon(b.accept_stream()).await.unwrap()];
    let lost = opened.len() - far.len();
    for _ in 0..lost {
        match soon(b.accept_stream()).await {
            Err(StreamError::NoDescriptor) => {}
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("more streams arrived than there was room for"),
        }
    }
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
    drop((opened, far, taken));
    let (mut send, _recv) = soon(a.open_stream()).await.unwrap();
    send.write_all(b"and on").await.unwrap();
    send.finish().unwrap();
    let (_send, mut recv) = soon(b.accept_stream()).await.unwrap();
    let mut bytes = Vec::new();
    soon(recv.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, b"and on");
    drop((send, _recv, _send, recv));
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

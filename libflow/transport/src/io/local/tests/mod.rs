//! Two local flows on a SEQPACKET pair, and one with a peer that speaks by hand.

mod ends;
mod hostile;
mod messages;
mod streams;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Flow, RecvHalf, SendHalf};
use crate::error::StreamError;

/// As irmd's.
pub(super) const LIMIT: usize = 65_536;

pub(super) fn sockets() -> (Arc<OwnedFd>, Arc<OwnedFd>) {
    // Tests with 1,024 streams need more descriptors than a shell's program has.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
    let flags = SocketFlags::CLOEXEC;
    let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (Arc::new(a), Arc::new(b))
}

pub(super) fn flows() -> (Flow, Flow) {
    let (a, b) = sockets();
    (Flow::new(a, LIMIT).unwrap(), Flow::new(b, LIMIT).unwrap())
}

/// Nothing here takes that long.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("within a minute")
}

/// A stream, from its opener and from who accepted it.
pub(super) async fn stream(a: &Flow, b: &Flow) -> ((SendHalf, RecvHalf), (SendHalf, RecvHalf)) {
    let near = soon(a.open_stream()).await.unwrap();
    let far = soon(b.accept_stream()).await.unwrap();
    (near, far)
}

/// All bytes to the end, and how it ended.
pub(super) async fn read_all(half: &mut RecvHalf) -> (Vec<u8>, Result<(), StreamError>) {
    let mut bytes = Vec::new();
    let end = soon(half.read_to_end(&mut bytes)).await;
    (bytes, end.map(|_| ()).map_err(of))
}

/// Writes until the kernel takes no more.
pub(super) async fn fill(half: &mut SendHalf) -> usize {
    let block = vec![7; 16 * 1024];
    let mut all = 0;
    while let Some(written) = at_once(half.write(&block)).await {
        all += written.unwrap();
    }
    all
}

/// What is ready at its first poll.
pub(super) async fn at_once<T>(what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    std::future::poll_fn(|context| match what.as_mut().poll(context) {
        std::task::Poll::Ready(it) => std::task::Poll::Ready(Some(it)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// The stream's error inside one of the reading and writing traits.
pub(super) fn of(error: std::io::Error) -> StreamError {
    let inner = error.into_inner().expect("an error of the stream's own");
    *inner.downcast::<StreamError>().expect("an error of the stream's own")
}

//! A Unix socket for gRPC that sleeps while there is nothing to read.
//!
//! tokio's own stream waits for "readable" and "writable" at once, and the kernel says "writable" whenever the peer
//! has read something: each message wakes its sender once more, for nothing. One allocation is ten messages between
//! five processes. This stream asks for "writable" only while a write has to wait.

#![expect(unsafe_code, reason = "reading into memory that nobody has to fill with zeroes first")]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::{Connected, UdsConnectInfo};

use super::watch::watch_for;

/// One end of a Unix stream socket.
#[derive(Debug)]
pub struct Stream {
    readable: AsyncFd<OwnedFd>,
    /// A duplicate that waits for room, while a write has to.
    writable: Option<AsyncFd<OwnedFd>>,
    peer: UdsConnectInfo,
}

impl Stream {
    /// Dials a listening socket. Must be called within a tokio runtime.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await?.try_into()
    }

    /// Tries `write` until it need not wait.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&OwnedFd) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(writable) = &self.writable {
                let mut guard = ready!(writable.poll_write_ready(cx))?;
                match write(self.readable.get_ref()) {
                    Err(Errno::AGAIN) => guard.clear_ready(),
                    Err(Errno::INTR) => {}
                    done => {
                        self.writable = None;
                        return Poll::Ready(done.map_err(Into::into));
                    }
                }
            } else {
                match write(self.readable.get_ref()) {
                    Err(Errno::AGAIN) => {
                        let twin = self.readable.get_ref().try_clone()?;
                        self.writable = Some(watch_for(twin, Interest::WRITABLE)?);
                    }
                    Err(Errno::INTR) => {}
                    done => return Poll::Ready(done.map_err(Into::into)),
                }
            }
        }
    }
}

impl TryFrom<UnixStream> for Stream {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Self> {
        let peer = stream.connect_info();
        let fd = OwnedFd::from(stream.into_std()?);
        Ok(Self { readable: watch_for(fd, Interest::READABLE)?, writable: None, peer })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.get_ref().as_fd()
    }
}

impl Connected for Stream {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.readable.poll_read_ready(cx))?;
            // SAFETY: nothing that was initialised is made uninitialised: `recv` only writes.
            let room = unsafe { buffer.unfilled_mut() };
            let all = room.len();
            match rustix::net::recv(self.readable.get_ref(), room, RecvFlags::DONTWAIT) {
                Ok(((read, _), _)) => {
                    let len = read.len();
                    // Less than there was room for: nothing more is there, and the next arrival wakes.
                    if 0 < len && len < all {
                        guard.clear_ready();
                    }
                    // SAFETY: `recv` has written these bytes.
                    unsafe { buffer.assume_init(len) };
                    buffer.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |fd| rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        self.poll_send(cx, |fd| rustix::net::sendmsg(fd, parts, &mut SendAncillaryBuffer::default(), flags))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(self.readable.get_ref(), Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}

/// A gRPC channel to the socket at `path`: dialled when first used, and again when it broke.
pub fn channel(path: impl AsRef<Path>) -> tonic::transport::Channel {
    endpoint().connect_with_connector_lazy(connector(path.as_ref().into()))
}

/// The same, dialled now.
pub async fn connected_channel(path: impl AsRef<Path>) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    endpoint().connect_with_connector(connector(path.as_ref().into())).await
}

/// Says nothing of where: the connector knows. A path may hold what an address of gRPC may not.
fn endpoint() -> tonic::transport::Endpoint {
    tonic::transport::Endpoint::from_static("http://flowring")
}

fn connector(
    path: Arc<Path>,
) -> impl tower::Service<
    tonic::transport::Uri,
    Response = hyper_util::rt::TokioIo<Stream>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<hyper_util::rt::TokioIo<Stream>>> + Send,
> + Send
+ 'static {
    tower::service_fn(move |_| {
        let path = path.clone();
        async move { Stream::connect(&path).await.map(hyper_util::rt::TokioIo::new) }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (Stream, Stream) {
        let (a, b) = UnixStream::pair().unwrap();
        (a.try_into().unwrap(), b.try_into().unwrap())
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time")
    }

    /// Far more than the socket holds: the writer has to wait for the reader many times.
    #[tokio::test]
    async fn all_that_is_written_is_read_though_the_reader_is_slower() {
        let (mut near, mut far) = pair();
        let bytes: Vec<u8> = (0..4 << 20).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let write = async {
            near.write_all(&bytes).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (_, got) = soon(async { tokio::join!(write, far.read_to_end(&mut read)) }).await;
        assert_eq!(got.unwrap(), bytes.len());
        assert!(read == bytes);
    }

    #[tokio::test]
    async fn a_reader_wakes_for_each_arrival_and_for_the_end() {
        let (mut near, mut far) = pair();
        let mut room = [0; 100];
        for n in 1..50 {
            let (sent, got) = soon(async { tokio::join!(near.write_all(&[7; 60][..n]), far.read(&mut room)) }).await;
            sent.unwrap();
            assert_eq!(got.unwrap(), n);
        }
        drop(near);
        assert_eq!(soon(far.read(&mut room)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_write_to_a_closed_peer_fails() {
        let (mut near, far) = pair();
        drop(far);
        assert_eq!(soon(near.write_all(b"x")).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

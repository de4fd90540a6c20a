//! A TCP or Unix socket, one side of a connection: read, written, spliced, watched, reset.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proto::forward::Broken;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketAddrAny, sockopt};
use rustix::pipe::SpliceFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tool::watched;

use crate::machine::cause::Cause;

/// One side of a connection that is a socket of the kernel's.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: AsyncFd<OwnedFd>,
    tcp: bool,
    /// That it is writable was forgotten while it was watched: ask it first.
    forgotten: bool,
}

impl Socket {
    /// Takes a connected, or connecting, socket in non-blocking mode over; in a runtime.
    pub(crate) fn new(fd: OwnedFd, tcp: bool) -> io::Result<Self> {
        let fd = watched(fd, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { fd, tcp, forgotten: false })
    }

    /// Its own address; `None` of a Unix socket.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        rustix::net::getsockname(&self.fd).ok().and_then(internet)
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }

    /// Waits until it is connected, or is not.
    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Ready before the kernel has said anything: it is asked whom it is connected to.
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            sockopt::socket_error(&self.fd)??;
            match rustix::net::getpeername(self.fd.get_ref()) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(Errno::NOTCONN) => guard.clear_ready(),
                Err(other) => return Poll::Ready(Err(other.into())),
            }
        }
    }

    /// Reads what is there; 0 at its end. A reset is an error, also behind an end that was not read before.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize, Cause>> {
        let room = into.len();
        let read = ready!(self.poll_take(cx, |fd| {
            rustix::net::recv(fd, &mut *into, RecvFlags::DONTWAIT).map(|(_, n)| (n, n < room))
        }));
        Poll::Ready(read)
    }

    /// The same into an empty pipe, at most `most` bytes.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, Cause>> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        // The pipe may be full before the socket is empty.
        self.poll_take(cx, |fd| rustix::pipe::splice(fd, None, pipe, None, most, flags).map(|len| (len, false)))
    }

    /// `call` says how much it read, and whether that was all there is.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&OwnedFd) -> Result<(usize, bool), Errno>,
    ) -> Poll<Result<usize, Cause>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx)).map_err(|error| Cause::of_io(&error))?;
            match call(guard.get_inner()) {
                // A reset that came behind the end reads as an end.
                Ok((0, _)) => return Poll::Ready(self.broken().map_or(Ok(0), Err)),
                Ok((len, all)) => {
                    if all {
                        // An end that has come is kept.
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(len));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(Cause::of_errno(errno.raw_os_error()))),
            }
        }
    }

    /// Writes what there is room for.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Cause>> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        self.poll_put(cx, |fd| rustix::net::send(fd, bytes, flags))
    }

    /// The same from a pipe that holds at least `len` bytes.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        len: usize,
    ) -> Poll<Result<usize, Cause>> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        self.poll_put(cx, |fd| rustix::pipe::splice(pipe, None, fd, None, len, flags))
    }

    fn poll_put(
        &mut self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&OwnedFd) -> Result<usize, Errno>,
    ) -> Poll<Result<usize, Cause>> {
        if self.forgotten {
            match call(self.fd.get_ref()) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return Poll::Ready(done.map_err(|errno| Cause::of_errno(errno.raw_os_error()))),
            }
        }
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx)).map_err(|error| Cause::of_io(&error))?;
            self.forgotten = false;
            match call(guard.get_inner()) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                done => return Poll::Ready(done.map_err(|errno| Cause::of_errno(errno.raw_os_error()))),
            }
        }
    }

    /// Tells the other end that this is all.
    pub(crate) fn finish(&self) -> Result<(), Cause> {
        rustix::net::shutdown(self.fd.get_ref(), Shutdown::Write).map_err(|errno| Cause::of_errno(errno.raw_os_error()))
    }

    /// Waits until it is reset, while it is neither read nor written.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        loop {
            let Ok(mut guard) = ready!(self.fd.poll_write_ready(cx)) else {
                return Poll::Ready(Cause::plain(Broken::Stopped));
            };
            if guard.ready().is_write_closed() {
                drop(guard);
                // Closed without an error: both directions have ended, and nothing more happens.
                return self.broken().map_or(Poll::Pending, Poll::Ready);
            }
            // Forgotten, so that the next news wakes us.
            guard.clear_ready_matching(Ready::WRITABLE);
            self.forgotten = true;
        }
    }

    /// The error that the kernel has noted, which it tells once.
    fn broken(&self) -> Option<Cause> {
        let noted = sockopt::socket_error(self.fd.get_ref());
        noted.ok()?.err().map(|errno| Cause::of_errno(errno.raw_os_error()))
    }

    /// When it is dropped, the other end is reset. A Unix socket cannot be: its other end reads an end, or a reset if it wrote
    /// what nobody read.
    pub(crate) fn reset_at_close(&self) {
        if self.tcp {
            // An error: it is closed already.
            let _ = sockopt::set_socket_linger(self.fd.get_ref(), Some(Duration::ZERO));
        }
    }
}

pub(crate) fn internet(address: SocketAddrAny) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(address).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// For what is layered upon it.
impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let len = ready!(Self::poll_read(self.get_mut(), cx, into.initialize_unfilled())).map_err(error)?;
        into.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bytes).map_err(error)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish().map_err(error))
    }
}

/// A cause on its way through what is layered upon a socket: [`Cause::of_io`] finds it again.
fn error(cause: Cause) -> io::Error {
    let kind = match cause.broken {
        Broken::Reset => io::ErrorKind::ConnectionReset,
        Broken::TimedOut => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, cause)
}

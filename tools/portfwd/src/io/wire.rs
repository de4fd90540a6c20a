//! A side of a connection, whatever it is: a socket, a stream of a flow, or something layered upon a socket.

use std::future::poll_fn;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use libflow::Stream;
use proto::forward::Broken;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flowing::Flowing;
use super::over::Seat;
use super::socket::Socket;
use crate::machine::cause::Cause;

/// How often a stream of a flow is looked at that is neither read nor written.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// A side of a connection.
pub(crate) enum Wire {
    /// A socket of the kernel's.
    Socket(Socket),
    /// A stream of a flow.
    Stream(Box<Flowing>),
    /// Such as TLS.
    Layered(Box<dyn Layered>),
}

/// What is layered upon a socket.
pub(crate) trait Layered: AsyncRead + AsyncWrite + Send + Unpin {
    /// When it is dropped, the other end is reset.
    fn reset_at_close(&mut self);
}

impl Wire {
    /// A stream of a flow.
    pub(crate) fn stream(stream: Stream, seat: Option<Seat>) -> Self {
        Self::Stream(Box::new(Flowing::new(stream, seat)))
    }

    /// Reads what is there; 0 at a clean end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize, Cause>> {
        match self {
            Self::Socket(socket) => socket.poll_read(cx, into),
            Self::Stream(flowing) => flowing.poll_read(cx, into),
            Self::Layered(layer) => read(Pin::new(&mut **layer), cx, into),
        }
    }

    /// Writes what there is room for.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Cause>> {
        let written = match self {
            Self::Socket(socket) => return socket.poll_write(cx, bytes),
            Self::Stream(flowing) => return flowing.poll_write(cx, bytes),
            Self::Layered(layer) => Pin::new(&mut **layer).poll_write(cx, bytes),
        };
        written.map_err(|error| Cause::of_io(&error))
    }

    /// Writes all, and has it leave.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Cause> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = &bytes[written..];
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// What was written leaves. Ready: nothing is held back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        match self {
            Self::Socket(_) | Self::Stream(_) => Poll::Ready(Ok(())),
            Self::Layered(layer) => Pin::new(&mut **layer).poll_flush(cx).map_err(|error| Cause::of_io(&error)),
        }
    }

    /// What it says may go into a pipe.
    pub(crate) fn fills(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Stream(flowing) => flowing.fills(),
            Self::Layered(_) => false,
        }
    }

    /// What it is told may come out of a pipe.
    pub(crate) fn drains(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Stream(flowing) => flowing.drains(),
            Self::Layered(_) => false,
        }
    }

    /// Reads into an empty pipe, where it [fills](Self::fills) one.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, Cause>> {
        match self {
            Self::Socket(socket) => socket.poll_fill(cx, pipe, most),
            Self::Stream(flowing) => flowing.poll_fill(cx, pipe, most),
            Self::Layered(_) => Poll::Ready(Err(Cause::plain(Broken::Failed))),
        }
    }

    /// Writes from a pipe, where it [drains](Self::drains) one.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        len: usize,
    ) -> Poll<Result<usize, Cause>> {
        match self {
            Self::Socket(socket) => socket.poll_drain(cx, pipe, len),
            Self::Stream(flowing) => flowing.poll_drain(cx, pipe, len),
            Self::Layered(_) => Poll::Ready(Err(Cause::plain(Broken::Failed))),
        }
    }

    /// Closing it, when all it says has been read, tells the other end as much as finishing does.
    pub(crate) fn ends_at_close(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// Tells the other end that this is all.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        match self {
            Self::Socket(socket) => Poll::Ready(socket.finish()),
            Self::Stream(flowing) => Poll::Ready(flowing.finish()),
            Self::Layered(layer) => Pin::new(&mut **layer).poll_shutdown(cx).map_err(|error| Cause::of_io(&error)),
        }
    }

    /// Waits until it breaks, while it is neither read nor written. A stream of a flow is only looked at: whoever is answered
    /// `Pending` asks again after [`LOOK`].
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        match self {
            Self::Socket(socket) => socket.poll_broken(cx),
            Self::Stream(flowing) => flowing.broken().map_or(Poll::Pending, Poll::Ready),
            // Found when it is written or read next.
            Self::Layered(_) => Poll::Pending,
        }
    }

    /// [`Self::poll_broken`] does not wake.
    pub(crate) fn is_looked_at(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Has the other end be reset behind what was written before. Ready: it is on its way, or cannot be said; now
    /// [`Self::reset`].
    pub(crate) fn poll_last_words(&mut self, cx: &mut Context<'_>, broken: Broken) -> Poll<()> {
        match self {
            Self::Stream(flowing) => flowing.poll_last_words(cx, broken),
            Self::Socket(_) | Self::Layered(_) => Poll::Ready(()),
        }
    }

    /// Ends it, so that the other end is reset.
    pub(crate) fn reset(self, broken: Broken) {
        match self {
            Self::Socket(socket) => socket.reset_at_close(),
            Self::Stream(mut flowing) => flowing.reset(broken),
            Self::Layered(mut layer) => layer.reset_at_close(),
        }
    }
}

fn read(
    from: Pin<&mut (impl AsyncRead + ?Sized)>,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<Result<usize, Cause>> {
    let mut into = ReadBuf::new(into);
    ready!(from.poll_read(cx, &mut into)).map_err(|error| Cause::of_io(&error))?;
    Poll::Ready(Ok(into.filled().len()))
}

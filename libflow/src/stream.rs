//! Streams of a flow.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transport::bridge::Bridge;
use transport::{Reason, StreamError, local, quic};

use crate::io::mux::Held;

/// The half of a stream that this program writes. Bytes that were written and [finished](Self::finish) arrive, all of
/// them and in order, or the reader is told that they do not.
///
/// Dropped without being finished it is reset with reason 0. The flow lives as long as one of its streams does, unless it
/// is deallocated.
pub struct SendStream {
    half: SendHalf,
    held: Arc<Held>,
}

pub(crate) enum SendHalf {
    Quic(quic::SendHalf),
    Local(local::SendHalf),
}

/// The half of a stream that this program reads. It ends (reads 0 bytes) when the writer finished it and all bytes have
/// been read; whatever else ends it is an error, whose source is a [`StreamError`].
///
/// Dropped before its end it is stopped with reason 0.
pub struct RecvStream {
    half: RecvHalf,
    held: Arc<Held>,
}

pub(crate) enum RecvHalf {
    Quic(quic::RecvHalf),
    Local(local::RecvHalf),
}

/// Both halves of a stream, as one that is read and written: what [`crate::Flow::into_stream`] gives.
///
/// Writing ends with [`shutdown`](tokio::io::AsyncWriteExt::shutdown) or [`finish`](SendStream::finish); reading goes on.
#[derive(Debug)]
pub struct Stream {
    /// The half that this program writes.
    pub send: SendStream,
    /// The half that it reads.
    pub recv: RecvStream,
}

impl SendStream {
    pub(crate) fn new(half: SendHalf, held: Arc<Held>) -> Self {
        Self { half, held }
    }

    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// No more bytes; those written so far arrive. Returns at once: [`stopped`](Self::stopped) tells when they have.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        let done = match &mut self.half {
            SendHalf::Quic(half) => half.finish(),
            SendHalf::Local(half) => half.finish(),
        };
        done.map_err(|error| self.held.explain(error))
    }

    /// Gives the stream up: the reader is told `reason`, and may not get what is under way.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.half {
            SendHalf::Quic(half) => half.reset(reason),
            SendHalf::Local(half) => half.reset(reason),
        }
    }

    /// Whether the reader has stopped the stream by now, and why; for who does not write and so would not learn of it.
    /// `None` of a finished one, too.
    pub fn try_stopped(&mut self) -> Result<Option<Reason>, StreamError> {
        let done = match &mut self.half {
            SendHalf::Quic(half) => half.try_stopped(),
            SendHalf::Local(half) => half.try_stopped(),
        };
        done.map_err(|error| self.held.explain(error))
    }

    /// Bytes may go from a pipe to the stream without a copy: within a host, on streams that this side opened.
    pub fn splices(&self) -> bool {
        matches!(&self.half, SendHalf::Local(half) if half.splices())
    }

    /// Writes up to `len` bytes out of a pipe that holds as many, where it [splices](Self::splices).
    pub fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: BorrowedFd<'_>, len: usize) -> Poll<io::Result<usize>> {
        let done = match &mut self.half {
            SendHalf::Quic(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            SendHalf::Local(half) => half.poll_splice(cx, pipe, len),
        };
        done.map_err(|error| self.held.explain_io(error))
    }

    /// Waits until the reader stopped the stream (its reason), or has received all of a finished one (`None`).
    pub async fn stopped(&mut self) -> Result<Option<Reason>, StreamError> {
        let done = match &mut self.half {
            SendHalf::Quic(half) => half.stopped().await,
            SendHalf::Local(half) => half.stopped().await,
        };
        done.map_err(|error| self.held.explain(error))
    }
}

impl RecvStream {
    pub(crate) fn new(half: RecvHalf, held: Arc<Held>) -> Self {
        Self { half, held }
    }

    pub(crate) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Bytes may go from the stream to a pipe without a copy: within a host.
    pub fn splices(&self) -> bool {
        matches!(self.half, RecvHalf::Local(_))
    }

    /// Reads up to `most` bytes into an empty pipe, where it [splices](Self::splices); 0 at its end.
    pub fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: BorrowedFd<'_>, most: usize) -> Poll<io::Result<usize>> {
        let done = match &mut self.half {
            RecvHalf::Quic(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            RecvHalf::Local(half) => half.poll_splice(cx, pipe, most),
        };
        done.map_err(|error| self.held.explain_io(error))
    }

    /// Reads no more: the writer is told `reason`.
    pub fn stop(&mut self, reason: Reason) {
        match &mut self.half {
            RecvHalf::Quic(half) => half.stop(reason),
            RecvHalf::Local(half) => half.stop(reason),
        }
    }
}

impl Stream {
    /// See [`SendStream::finish`].
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.send.finish()
    }

    /// Gives both halves up: the peer reads an error with `reason`, and so do its writes.
    pub fn reset(&mut self, reason: Reason) {
        self.send.reset(reason);
        self.recv.stop(reason);
    }

    /// The halves, for two tasks.
    pub fn into_split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }

    /// A plain descriptor of the stream, a SOCK_STREAM socket in blocking mode, for programs that only know those: its
    /// `shutdown` finishes, and what it reads ends as the stream does; [`Bridge::why`] says what `ECONNRESET` and `EPIPE`
    /// mean. A task of the flow's moves the bytes.
    ///
    /// # Errors
    /// No descriptors: three are needed for a moment, two stay.
    pub fn into_fd(self) -> io::Result<(OwnedFd, Bridge)> {
        let held = self.send.held.clone();
        held.within_runtime(|| transport::bridge::into_fd(self.send, self.recv))
    }

    /// The flow's id on this host, as `irm flow list` shows it.
    pub fn flow_id(&self) -> proto::FlowId {
        self.send.held.core.id()
    }
}

impl transport::SendStream for SendStream {
    fn finish(&mut self) -> Result<(), StreamError> {
        self.finish()
    }

    fn reset(&mut self, reason: Reason) {
        self.reset(reason);
    }
}

impl transport::RecvStream for RecvStream {
    fn stop(&mut self, reason: Reason) {
        self.stop(reason);
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = match &mut this.half {
            SendHalf::Quic(half) => Pin::new(half).poll_write(cx, bytes),
            SendHalf::Local(half) => Pin::new(half).poll_write(cx, bytes),
        };
        done.map_err(|error| this.held.explain_io(error))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().half {
            SendHalf::Quic(half) => Pin::new(half).poll_flush(cx),
            SendHalf::Local(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = match &mut this.half {
            SendHalf::Quic(half) => Pin::new(half).poll_shutdown(cx),
            SendHalf::Local(half) => Pin::new(half).poll_shutdown(cx),
        };
        done.map_err(|error| this.held.explain_io(error))
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = match &mut this.half {
            RecvHalf::Quic(half) => Pin::new(half).poll_read(cx, into),
            RecvHalf::Local(half) => Pin::new(half).poll_read(cx, into),
        };
        done.map_err(|error| this.held.explain_io(error))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().send).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().send).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().send).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().recv).poll_read(cx, into)
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("flow", &self.held.core.id()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("flow", &self.held.core.id()).finish_non_exhaustive()
    }
}

//! The two halves of a local stream.
#![expect(unsafe_code, reason = "bytes are received into memory that was never written")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::SpliceFlags;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::Handle;
use super::shared::State;
use crate::error::{Over, Reason, StreamError};
use crate::machine::local::{Receiving, Sending, StreamId, Way};

/// A stream's pair was shut down and nobody says why: the other program died, which the daemon tells soon, or it speaks
/// nonsense, which is found after so long.
const WORDLESS: Duration = Duration::from_secs(5);

/// The writing half of a stream. Dropped before [`finish`](Self::finish) it resets the stream with [`Reason`] 0.
pub struct SendHalf {
    end: End,
    /// Finished or reset.
    over: bool,
}

/// The reading half of a stream. Dropped before the stream's end it stops the stream with [`Reason`] 0.
pub struct RecvHalf {
    end: End,
    over: Option<ReadOver>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadOver {
    Clean,
    Stopped,
}

/// What the halves have in common.
struct End {
    handle: Arc<Handle>,
    id: StreamId,
    way: Way,
    near: Arc<AsyncFd<OwnedFd>>,
    wordless: Option<Pin<Box<Sleep>>>,
}

impl End {
    /// Asks the machine for a verdict, waiting for one if there is none: `verdict` gives `None` while the half is open.
    fn poll_verdict<T>(
        &mut self,
        context: &mut Context<'_>,
        verdict: impl Fn(&State) -> Option<Result<T, StreamError>>,
    ) -> Poll<Result<T, StreamError>> {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        if let Some(verdict) = verdict(&state) {
            return Poll::Ready(verdict);
        }
        if let Some(over) = state.exchange.over() {
            return Poll::Ready(Err(StreamError::Over(over.clone())));
        }
        state.wait(self.id, self.way, context);
        Poll::Pending
    }

    /// The same once the pair has been shut down.
    fn poll_last_word<T>(
        &mut self,
        context: &mut Context<'_>,
        verdict: impl Fn(&State) -> Option<Result<T, StreamError>>,
    ) -> Poll<io::Result<T>> {
        // It was said before: it need not wait for the flow's task.
        let shared = self.handle.shared.clone();
        shared.drain(|_| false);
        shared.announce(&shared.lock().exchange);
        if let Poll::Ready(verdict) = self.poll_verdict(context, &verdict) {
            return Poll::Ready(verdict.map_err(Into::into));
        }
        let wordless = self.wordless.get_or_insert_with(|| Box::pin(tokio::time::sleep(WORDLESS)));
        ready!(wordless.as_mut().poll(context));
        let words = "a stream's end was shut without a word";
        shared.with(|state| state.exchange.cut(Over::Protocol(words.to_owned())));
        self.poll_verdict(context, &verdict).map_err(Into::into)
    }
}

impl SendHalf {
    pub(super) fn new(handle: Arc<Handle>, id: StreamId, near: Arc<AsyncFd<OwnedFd>>) -> Self {
        Self { end: End { handle, id, way: Way::Send, near, wordless: None }, over: false }
    }

    /// All has been written: the peer reads it to a clean end. Does not wait.
    ///
    /// # Errors
    /// It was finished or reset before; the peer stopped it; the flow is over.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        if self.over {
            return Err(StreamError::Finished);
        }
        self.end.handle.shared.with(|state| state.exchange.finish(self.end.id))?;
        self.over = true;
        Ok(())
    }

    /// Gives the stream up: the peer reads an error. After [`finish`](Self::finish), nothing happens.
    pub fn reset(&mut self, reason: Reason) {
        if !self.over {
            self.end.handle.shared.with(|state| state.exchange.reset(self.end.id, reason));
            self.over = true;
        }
    }

    /// Whether the peer has stopped it by now, and why; `None` of a half that was finished, too.
    ///
    /// # Errors
    /// It was reset; the flow is over.
    pub fn try_stopped(&mut self) -> Result<Option<Reason>, StreamError> {
        let state = self.end.handle.shared.lock();
        match state.exchange.sending(self.end.id) {
            Sending::Stopped(reason) => Ok(Some(reason)),
            Sending::Reset => Err(StreamError::Finished),
            Sending::Refused => Err(StreamError::PeerNoDescriptor),
            Sending::Open | Sending::Finishing | Sending::Finished => match state.exchange.over() {
                Some(over) => Err(StreamError::Over(over.clone())),
                None => Ok(None),
            },
        }
    }

    /// Whether [`Self::poll_splice`] may be called: not of a stream that the other program opened. Splicing into a socket waits
    /// unless its file says otherwise, and that program may have kept a share of the file.
    pub fn splices(&self) -> bool {
        self.end.id.ours
    }

    /// Writes up to `len` bytes, at least one, out of a pipe that holds as many; in the kernel, without a copy.
    pub fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, len, |near, _| {
            rustix::pipe::splice(pipe, None, near, None, len, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
        })
    }

    /// Waits until the peer stopped the stream, which gives its reason, or, once it is finished, all lies in the peer's
    /// kernel buffer: `None`.
    ///
    /// # Errors
    /// It was reset; the flow is over.
    pub async fn stopped(&mut self) -> Result<Option<Reason>, StreamError> {
        let id = self.end.id;
        std::future::poll_fn(|context| {
            self.end.poll_verdict(context, |state| match state.exchange.sending(id) {
                Sending::Open | Sending::Finishing => None,
                Sending::Finished => Some(Ok(None)),
                Sending::Stopped(reason) => Some(Ok(Some(reason))),
                Sending::Reset => Some(Err(StreamError::Finished)),
                Sending::Refused => Some(Err(StreamError::PeerNoDescriptor)),
            })
        })
        .await
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        len: usize,
        send: impl Fn(&OwnedFd, SendFlags) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        if self.over {
            return Poll::Ready(Err(StreamError::Finished.into()));
        }
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let near = &self.end.near;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let call = |near: &OwnedFd| send(near, flags).map(|sent| (sent, sent < len));
        match poll_kernel(|| near.poll_write_ready(context), call)? {
            Tried::Done(sent) => {
                self.end.handle.shared.wrote(sent);
                Poll::Ready(Ok(sent))
            }
            // A full socket whose reader shuts it down does not become writable.
            Tried::Pending => self.end.poll_verdict(context, writable(self.end.id)).map_err(Into::into),
            Tried::Shut => self.end.poll_last_word(context, writable(self.end.id)),
        }
    }
}

/// Why nothing more can be written, if it is known.
fn writable(id: StreamId) -> impl Fn(&State) -> Option<Result<usize, StreamError>> {
    move |state| match state.exchange.sending(id) {
        Sending::Open => None,
        Sending::Stopped(reason) => Some(Err(StreamError::Stopped(reason))),
        Sending::Refused => Some(Err(StreamError::PeerNoDescriptor)),
        Sending::Finishing | Sending::Finished | Sending::Reset => Some(Err(StreamError::Finished)),
    }
}

/// What came of asking the kernel.
enum Tried {
    Done(usize),
    Pending,
    Shut,
}

/// Asks the kernel as often as it is ready. `call` says what it did, and whether that was less than it could have been, so
/// that the next one would have to wait.
fn poll_kernel<'a>(
    mut ready: impl FnMut() -> Poll<io::Result<AsyncFdReadyGuard<'a, OwnedFd>>>,
    mut call: impl FnMut(&OwnedFd) -> Result<(usize, bool), Errno>,
) -> io::Result<Tried> {
    loop {
        let Poll::Ready(guard) = ready() else { return Ok(Tried::Pending) };
        let mut guard = guard?;
        match call(guard.get_inner()) {
            Ok((0, _)) | Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::CONNREFUSED) => {
                return Ok(Tried::Shut);
            }
            Ok((done, exhausted)) => {
                if exhausted {
                    // An end that came meanwhile is kept.
                    guard.clear_ready();
                }
                return Ok(Tried::Done(done));
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(other) => return Err(other.into()),
        }
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, bytes.len(), |near, flags| rustix::net::send(near, bytes, flags))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = bytes.iter().map(|part| part.len()).sum();
        self.poll_send(context, len, |near, flags| rustix::net::sendmsg(near, bytes, &mut Default::default(), flags))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// [`SendHalf::finish`]; the second time, nothing.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(if self.over { Ok(()) } else { self.finish().map_err(Into::into) })
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.reset(Reason(0));
        self.end.handle.shared.with(|state| state.release(self.end.id, Way::Send));
    }
}

impl RecvHalf {
    pub(super) fn new(handle: Arc<Handle>, id: StreamId, near: Arc<AsyncFd<OwnedFd>>) -> Self {
        Self { end: End { handle, id, way: Way::Recv, near, wordless: None }, over: None }
    }

    /// Reads no more: the peer's writes fail with `reason`. After the stream's end, nothing happens.
    pub fn stop(&mut self, reason: Reason) {
        if self.over.is_none() {
            self.end.handle.shared.with(|state| state.exchange.stop(self.end.id, reason));
            self.over = Some(ReadOver::Stopped);
        }
    }
}

impl RecvHalf {
    /// Reads with `call`, which says how much it read, and whether that was less than there was room for; 0 at the end.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        call: impl FnMut(&OwnedFd) -> Result<(usize, bool), Errno>,
    ) -> Poll<io::Result<usize>> {
        match self.over {
            Some(ReadOver::Clean) => return Poll::Ready(Ok(0)),
            Some(ReadOver::Stopped) => return Poll::Ready(Err(StreamError::Finished.into())),
            None => {}
        }
        let near = &self.end.near;
        match poll_kernel(|| near.poll_read_ready(context), call)? {
            Tried::Done(len) => {
                self.end.handle.shared.read(len);
                return Poll::Ready(Ok(len));
            }
            Tried::Pending => return Poll::Pending,
            Tried::Shut => {}
        }
        let id = self.end.id;
        ready!(self.end.poll_last_word(context, |state| match state.exchange.receiving(id) {
            Receiving::Open => None,
            Receiving::Finished => Some(Ok(())),
            Receiving::Reset(reason) => Some(Err(StreamError::Reset(reason))),
            Receiving::Refused => Some(Err(StreamError::PeerNoDescriptor)),
            Receiving::Stopped | Receiving::Done => Some(Err(StreamError::Finished)),
        }))?;
        self.over = Some(ReadOver::Clean);
        Poll::Ready(Ok(0))
    }

    /// Reads up to `most` bytes into an empty pipe; 0 at the end. In the kernel, without a copy.
    pub fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        // The pipe may be full before the socket is empty: only EAGAIN says that it is.
        self.poll_receive(context, |near| {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            rustix::pipe::splice(near, None, pipe, None, most, flags).map(|len| (len, false))
        })
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = into.remaining();
        if room == 0 && self.over.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.poll_receive(context, |near| receive(near, into).map(|len| (len, len < room))).map_ok(drop)
    }
}

/// Receives without waiting; how many bytes.
fn receive(near: &OwnedFd, into: &mut ReadBuf<'_>) -> Result<usize, Errno> {
    // SAFETY: the kernel writes to the slice and nothing is taken back.
    let room = unsafe { into.unfilled_mut() };
    let (_, len) = rustix::net::recv(near, room, RecvFlags::DONTWAIT)?;
    // SAFETY: the kernel wrote so many bytes at the slice's beginning; without MSG_TRUNC that is no more than it holds.
    unsafe { into.assume_init(len) };
    into.advance(len);
    Ok(len)
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.stop(Reason(0));
        self.end.handle.shared.with(|state| state.release(self.end.id, Way::Recv));
    }
}

//! The two halves of a stream.
//!
//! The side that opens a stream sends one byte, 0, ahead of its own: so the other side learns of it at once. Other values
//! are free for later kinds of streams; this version takes them for nonsense.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use noq::{ReadError, RecvStream, SendStream, StoppedError, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::config::{code, reason};
use super::ending::at_once;
use super::flow::Inner;
use crate::{Over, Reason, StreamError};

/// Announces a stream.
const PLAIN: u8 = 0;

/// The half of a stream that sends: [`AsyncWrite`], whose shutdown is [`SendHalf::finish`].
///
/// Dropped without either, it is reset with reason 0: a transfer that was cut short never looks complete.
pub struct SendHalf {
    stream: SendStream,
    flow: Arc<Inner>,
    state: State,
    /// Why the peer reads no more.
    why: Option<Reason>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Finished,
    Reset,
}

/// The half of a stream that receives: [`AsyncRead`]. Its end is the peer's [`SendHalf::finish`] and nothing else.
///
/// Dropped before the end, it is stopped with reason 0.
pub struct RecvHalf {
    stream: RecvStream,
    flow: Arc<Inner>,
    /// The byte that announced it has not been read.
    announced: bool,
}

impl SendHalf {
    pub(super) fn new(stream: SendStream, flow: Arc<Inner>) -> Self {
        Self { stream, flow, state: State::Open, why: None }
    }

    /// Tells the peer that the stream is there.
    pub(super) async fn announce(&mut self) -> Result<(), StreamError> {
        self.stream.write_all(&[PLAIN]).await.map_err(|error| self.error(error))
    }

    /// No more follows: the peer reads all that was written, and then the end.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        if self.state != State::Open {
            return Err(StreamError::Finished);
        }
        if let Err(error) = self.asked() {
            if let StreamError::Stopped(reason) = error {
                self.give_up(reason);
            }
            return Err(error);
        }
        self.stream.finish().map_err(|_| StreamError::Finished)?;
        self.state = State::Finished;
        self.flow.unconfirmed.add(Box::pin(self.stream.stopped()));
        Ok(())
    }

    /// Gives the stream up: what the peer has not read may be lost, and it is told that this is no end. Nothing happens
    /// to a half that was finished before.
    pub fn reset(&mut self, reason: Reason) {
        if self.state == State::Open {
            self.give_up(reason);
        }
    }

    fn give_up(&mut self, reason: Reason) {
        self.state = State::Reset;
        // An error: the connection is gone.
        let _ = self.stream.reset(code(reason));
    }

    /// Whether the peer has stopped it by now, and why; `None` of a half that was finished, too.
    ///
    /// # Errors
    /// It was reset; the flow is over.
    pub fn try_stopped(&mut self) -> Result<Option<Reason>, StreamError> {
        match self.state {
            State::Reset => Err(StreamError::Finished),
            State::Finished => Ok(self.why),
            State::Open => match self.asked() {
                Ok(()) => Ok(None),
                Err(StreamError::Stopped(reason)) => Ok(Some(reason)),
                Err(error) => Err(error),
            },
        }
    }

    /// Asks by writing nothing: the library never forgets that somebody waited for the stop of a stream that is over.
    fn asked(&mut self) -> Result<(), StreamError> {
        match at_once(std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_write(cx, &[]))) {
            Some(Err(error)) => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    /// Waits until the peer reads no more: its reason, or `None` when the half was finished and all of it arrived (at the
    /// peer's host; not that its program has read it).
    pub async fn stopped(&mut self) -> Result<Option<Reason>, StreamError> {
        if self.state == State::Reset {
            return Err(StreamError::Finished);
        }
        if self.why.is_some() {
            return Ok(self.why);
        }
        // Forgotten by the library: all of it has arrived.
        if self.state == State::Finished && self.stream.priority().is_err() {
            return Ok(None);
        }
        match self.stream.stopped().await {
            Ok(why) => {
                self.why = why.map(reason);
                Ok(self.why)
            }
            Err(StoppedError::ConnectionLost(error)) => Err(StreamError::Over(self.flow.over(&error))),
            Err(StoppedError::ZeroRttRejected) => Err(StreamError::Over(no_early_data())),
        }
    }

    fn error(&mut self, error: WriteError) -> StreamError {
        match error {
            WriteError::Stopped(why) => {
                self.why = Some(reason(why));
                StreamError::Stopped(reason(why))
            }
            WriteError::ConnectionLost(error) => StreamError::Over(self.flow.over(&error)),
            WriteError::ClosedStream => StreamError::Finished,
            WriteError::ZeroRttRejected => StreamError::Over(no_early_data()),
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.reset(Reason(0));
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.state != State::Open {
            return Poll::Ready(Err(StreamError::Finished.into()));
        }
        // A task that only writes must let others have their turn.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        turn.made_progress();
        Poll::Ready(written.map_err(|error| self.error(error).into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.state {
            State::Finished => Ok(()),
            _ => self.finish().map_err(Into::into),
        })
    }
}

impl RecvHalf {
    pub(super) fn new(stream: RecvStream, flow: Arc<Inner>, announced: bool) -> Self {
        Self { stream, flow, announced }
    }

    /// Reads no more; the peer's writes fail with [`StreamError::Stopped`].
    pub fn stop(&mut self, reason: Reason) {
        // An error: it has ended before.
        let _ = self.stream.stop(code(reason));
    }

    /// The next bytes, at most `most`, without copying them; `None` at the end. Cancel-safe.
    pub async fn read_chunk(&mut self, most: usize) -> Result<Option<Bytes>, StreamError> {
        std::future::poll_fn(|cx| self.poll_announced(cx)).await?;
        self.stream.read_chunk(most).await.map_err(|error| self.error(error))
    }

    /// Reads the byte that announced the stream.
    fn poll_announced(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if !self.announced {
            return Poll::Ready(Ok(()));
        }
        let mut byte = [0];
        match ready!(self.stream.poll_read(cx, &mut byte)) {
            Ok(1) if byte == [PLAIN] => {
                self.announced = false;
                Poll::Ready(Ok(()))
            }
            Ok(_) => {
                let words = "it opened a stream without announcing what it is";
                self.flow.nonsense(words);
                Poll::Ready(Err(StreamError::Over(Over::Protocol(words.to_owned()))))
            }
            Err(error) => Poll::Ready(Err(self.error(error))),
        }
    }

    fn error(&self, error: ReadError) -> StreamError {
        match error {
            ReadError::Reset(why) => StreamError::Reset(reason(why)),
            ReadError::ConnectionLost(error) => StreamError::Over(self.flow.over(&error)),
            ReadError::ClosedStream => StreamError::Finished,
            ReadError::ZeroRttRejected => StreamError::Over(no_early_data()),
        }
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.announced {
            ready!(self.poll_announced(cx))?;
        }
        // A task that only reads must let others have their turn.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let read = ready!(AsyncRead::poll_read(Pin::new(&mut self.stream), cx, buffer));
        turn.made_progress();
        Poll::Ready(read.map_err(|error| match error.downcast::<ReadError>() {
            Ok(error) => self.error(error).into(),
            Err(other) => other,
        }))
    }
}

/// Nothing is sent before the handshake.
fn no_early_data() -> Over {
    Over::Protocol("it refused early data, of which there is none".to_owned())
}

impl std::fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendHalf({})", self.stream.id())
    }
}

impl std::fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecvHalf({})", self.stream.id())
    }
}

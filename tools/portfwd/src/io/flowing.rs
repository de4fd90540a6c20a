//! A stream of a flow, one side of a connection. Between hosts its bytes are in pieces, so that a reset stands behind what
//! came before it.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use libflow::{Reason, Stream, StreamError};
use proto::forward::{Broken, LONGEST_PIECE, Malformed, PIECE_HEAD, Pieces, last_words, piece_head};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::over::Seat;
use crate::machine::cause::Cause;

/// A stream of a flow, behind its headers.
pub(crate) struct Flowing {
    stream: Stream,
    /// Between hosts.
    pieces: Option<Framing>,
    /// Its place in a flow that this side asked for.
    _seat: Option<Seat>,
}

#[derive(Default)]
struct Framing {
    taken: Pieces,
    /// What stands before the piece that is being written, and how much of it is still to be.
    head: [u8; 2 * PIECE_HEAD],
    head_from: usize,
    head_to: usize,
    /// Of the piece that is being written.
    left: usize,
}

impl Flowing {
    pub(crate) fn new(stream: Stream, seat: Option<Seat>) -> Self {
        let pieces = (!stream.recv.splices()).then(Framing::default);
        Self { stream, pieces, _seat: seat }
    }

    /// See [`super::wire::Wire::fills`].
    pub(crate) fn fills(&self) -> bool {
        self.stream.recv.splices()
    }

    /// See [`super::wire::Wire::drains`].
    pub(crate) fn drains(&self) -> bool {
        self.stream.send.splices()
    }

    /// See [`super::wire::Wire::poll_read`].
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<usize, Cause>> {
        loop {
            if let Some(broken) = self.pieces.as_ref().and_then(|pieces| pieces.taken.broken()) {
                return Poll::Ready(Err(Cause::plain(broken)));
            }
            let mut room = ReadBuf::new(into);
            ready!(Pin::new(&mut self.stream.recv).poll_read(cx, &mut room)).map_err(|error| Cause::of_io(&error))?;
            let read = room.filled().len();
            let Some(pieces) = &mut self.pieces else { return Poll::Ready(Ok(read)) };
            if read == 0 {
                let whole = pieces.taken.is_whole();
                return Poll::Ready(if whole { Ok(0) } else { Err(Cause::plain(Broken::Protocol)) });
            }
            let nonsense = |error: Malformed| Cause::said(Broken::Protocol, error);
            match pieces.taken.strip(&mut into[..read]).map_err(nonsense)? {
                // Only what stands before a piece.
                0 => {}
                kept => return Poll::Ready(Ok(kept)),
            }
        }
    }

    /// See [`super::wire::Wire::poll_write`].
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Cause>> {
        let mut most = bytes.len();
        if let Some(pieces) = &mut self.pieces {
            if pieces.left == 0 && most > 0 {
                pieces.left = most.min(LONGEST_PIECE);
                pieces.say(&piece_head(pieces.left));
            }
            most = most.min(pieces.left);
        }
        ready!(self.poll_head(cx))?;
        let written = ready!(Pin::new(&mut self.stream.send).poll_write(cx, &bytes[..most])).map_err(of_io)?;
        if let Some(pieces) = &mut self.pieces {
            pieces.left -= written;
        }
        Poll::Ready(Ok(written))
    }

    /// Writes what stands before a piece.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(Ok(())) };
        while pieces.head_from < pieces.head_to {
            let rest = &pieces.head[pieces.head_from..pieces.head_to];
            pieces.head_from += ready!(Pin::new(&mut self.stream.send).poll_write(cx, rest)).map_err(of_io)?;
        }
        Poll::Ready(Ok(()))
    }

    /// See [`super::wire::Wire::poll_fill`].
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, Cause>> {
        self.stream.recv.poll_splice(cx, pipe, most).map_err(of_io)
    }

    /// See [`super::wire::Wire::poll_drain`].
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        len: usize,
    ) -> Poll<Result<usize, Cause>> {
        self.stream.send.poll_splice(cx, pipe, len).map_err(of_io)
    }

    /// Tells the other end that this is all.
    pub(crate) fn finish(&mut self) -> Result<(), Cause> {
        self.stream.send.finish().map_err(|error| Cause::of_stream(&error))
    }

    /// Why the other end takes no more, or the flow is gone; nothing: neither.
    pub(crate) fn broken(&mut self) -> Option<Cause> {
        match self.stream.send.try_stopped() {
            Ok(Some(reason)) => Some(Cause::plain(Broken::from_code(reason.0))),
            // Finished, and not stopped before: nothing can happen to it any more.
            Ok(None) | Err(StreamError::Finished) => None,
            Err(error) => Some(Cause::of_stream(&error)),
        }
    }

    /// Says, behind what was written before, that it broke. Ready: it is said, or cannot be.
    pub(crate) fn poll_last_words(&mut self, cx: &mut Context<'_>, broken: Broken) -> Poll<()> {
        // The other direction is of no use any more.
        self.stream.recv.stop(Reason(broken.code()));
        match &mut self.pieces {
            // Within a piece nothing can be said.
            Some(pieces) if pieces.left == 0 => {
                if pieces.head_to != pieces.head.len() {
                    pieces.say(&last_words(broken));
                }
            }
            _ => return Poll::Ready(()),
        }
        // Said behind all else, it is the end of the stream's own, too.
        if ready!(self.poll_head(cx)).is_ok() {
            let _ = self.stream.send.finish();
        }
        Poll::Ready(())
    }

    /// Ends it: what was not finished is reset.
    pub(crate) fn reset(&mut self, broken: Broken) {
        self.stream.reset(Reason(broken.code()));
    }
}

impl Framing {
    fn say(&mut self, words: &[u8]) {
        self.head[..words.len()].copy_from_slice(words);
        (self.head_from, self.head_to) = (0, words.len());
    }
}

fn of_io(error: io::Error) -> Cause {
    Cause::of_io(&error)
}

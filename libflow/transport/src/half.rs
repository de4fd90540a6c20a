//! The halves of a stream, whatever carries it.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{Reason, StreamError};

/// The writing half of a stream. Dropped before it is finished it resets the stream with [`Reason`] 0.
pub trait SendStream: AsyncWrite + Send + Unpin + 'static {
    /// All has been written: the peer reads it to a clean end.
    fn finish(&mut self) -> Result<(), StreamError>;

    /// Gives the stream up: the peer reads an error.
    fn reset(&mut self, reason: Reason);
}

/// The reading half of a stream. Dropped before the stream's end it stops the stream with [`Reason`] 0.
pub trait RecvStream: AsyncRead + Send + Unpin + 'static {
    /// Reads no more: the peer's writes fail.
    fn stop(&mut self, reason: Reason);
}

impl SendStream for crate::local::SendHalf {
    fn finish(&mut self) -> Result<(), StreamError> {
        self.finish()
    }

    fn reset(&mut self, reason: Reason) {
        self.reset(reason);
    }
}

impl RecvStream for crate::local::RecvHalf {
    fn stop(&mut self, reason: Reason) {
        self.stop(reason);
    }
}

impl SendStream for crate::quic::SendHalf {
    fn finish(&mut self) -> Result<(), StreamError> {
        self.finish()
    }

    fn reset(&mut self, reason: Reason) {
        self.reset(reason);
    }
}

impl RecvStream for crate::quic::RecvHalf {
    fn stop(&mut self, reason: Reason) {
        self.stop(reason);
    }
}

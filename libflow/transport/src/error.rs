//! What may go wrong with a stream or a message.

use std::fmt;
use std::io;

/// Why a program reset or stopped a stream: a number of its own, carried to the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reason(pub u32);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why nothing more goes over a flow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Over {
    /// This side closed it.
    #[error("this program deallocated it")]
    Closed,
    /// The other side closed it; all it had finished has arrived.
    #[error("the peer deallocated it")]
    PeerClosed,
    /// The other side did not let this one in, in its words.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The peer was silent for too long.
    #[error("the peer was silent for too long")]
    TimedOut,
    /// The socket was closed under it: the daemon, or the peer's program, ended the flow.
    #[error("its socket was closed")]
    SocketClosed,
    /// The daemons ended the flow, for this reason.
    #[error("{0}")]
    Ended(String),
    /// The peer broke the protocol, or the other end of a local flow spoke nonsense.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
}

/// A stream gave no bytes, or took none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The sending end gave the stream up: what it said so far may be incomplete.
    #[error("the stream was reset by its sender (reason {0}): what came is incomplete")]
    Reset(Reason),
    /// The receiving end reads no more.
    #[error("the stream was stopped by its receiver (reason {0}): nobody reads what is sent")]
    Stopped(Reason),
    /// This half was finished or reset before.
    #[error("this half of the stream was finished before")]
    Finished,
    /// This program has no descriptor left, which each stream within a host needs. The flow goes on.
    #[error("this program has no descriptor left for another stream; end some, or raise its limit (ulimit -n)")]
    NoDescriptor,
    /// The program at the other end has none left.
    #[error("the peer's program has no descriptor left for another stream; end some, or raise its limit (ulimit -n)")]
    PeerNoDescriptor,
    /// The flow is over.
    #[error("the flow is gone: {0}; allocate a new one")]
    Over(Over),
    /// A flow that has no streams.
    #[error("this is a {0} flow, which has no streams; allocate it with Qos::stream()")]
    NoStreams(&'static str),
}

impl From<StreamError> for io::Error {
    /// `ConnectionReset`, `BrokenPipe`, `NotConnected`, `QuotaExceeded` (no descriptors), `ConnectionAborted` (over), `Unsupported`
    /// (no streams), with the error inside.
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Reset(_) => io::ErrorKind::ConnectionReset,
            StreamError::Stopped(_) => io::ErrorKind::BrokenPipe,
            StreamError::Finished => io::ErrorKind::NotConnected,
            StreamError::NoDescriptor | StreamError::PeerNoDescriptor => io::ErrorKind::QuotaExceeded,
            StreamError::Over(_) => io::ErrorKind::ConnectionAborted,
            StreamError::NoStreams(_) => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}

/// A message was not sent, or none came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Messages have at least one byte.
    #[error("a message has at least one byte")]
    Empty,
    /// It is longer than what the flow carries.
    #[error("a message of {len} bytes does not fit this flow, which carries {limit} at most; send less at once")]
    TooLong {
        /// The longest now; it changes with the path.
        limit: usize,
        /// The message's length.
        len: usize,
    },
    /// A `try_` call would have had to wait.
    #[error("the flow is not ready; wait for it and try again")]
    WouldBlock,
    /// The flow is over.
    #[error("the flow is gone: {0}; allocate a new one")]
    Over(Over),
}

//! Why a connection was not made, and why one that was did not end well.

use std::fmt;
use std::io;

use libflow::{AllocError, StreamError};
use proto::forward::{Answer, Broken, Verdict};

/// Why no target took a connection. Its client is reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What became of it, as the far side of a flow is told.
    pub verdict: Verdict,
    /// Where it failed.
    pub at: At,
    /// What happened.
    pub words: String,
}

/// Where a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// At a socket of this forwarder's own, or by its rule.
    Here,
    /// No flow could be allocated.
    Allocation,
    /// At the forwarder at the other end of a flow, or by its rule.
    Far,
}

/// Why a connection broke: what its other side is reset with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The kind of it, as the far side of a flow is told.
    pub broken: Broken,
    /// What happened, where the kind does not say all.
    pub words: Option<Box<str>>,
}

impl Refusal {
    /// A refusal of this forwarder's own.
    pub fn here(verdict: Verdict, words: impl Into<String>) -> Self {
        Self { verdict, at: At::Here, words: words.into() }
    }

    /// A target's socket could not be connected.
    pub fn of_dial(error: &io::Error) -> Self {
        let verdict = match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::ENOENT) => Verdict::Refused,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => Verdict::Unreachable,
            Some(libc::ETIMEDOUT) => Verdict::TimedOut,
            // EAGAIN: no local port, or the backlog of a Unix socket is full.
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL | libc::EAGAIN) => {
                Verdict::Exhausted
            }
            Some(libc::EACCES | libc::EPERM) => Verdict::NotPermitted,
            _ if error.kind() == io::ErrorKind::TimedOut => Verdict::TimedOut,
            _ => Verdict::Failed,
        };
        Self::here(verdict, error.to_string())
    }

    /// No flow was allocated.
    pub fn of_alloc(error: &AllocError) -> Self {
        let verdict = match error {
            AllocError::UnknownName { .. } | AllocError::NoSuchLayer { .. } => Verdict::UnknownHost,
            AllocError::Refused { .. } => Verdict::Refused,
            AllocError::NobodyAccepts { .. } => Verdict::NoTarget,
            AllocError::TimedOut { .. } => Verdict::TimedOut,
            AllocError::NotPermitted { .. } | AllocError::Untrusted { .. } => Verdict::NotPermitted,
            AllocError::Exhausted { .. } => Verdict::Exhausted,
            AllocError::IpcpDown { .. } | AllocError::IrmdUnreachable(_) => Verdict::Unreachable,
            _ => Verdict::Failed,
        };
        Self { verdict, at: At::Allocation, words: error.to_string() }
    }

    /// The flow's far side said no.
    pub fn of_answer(answer: Answer) -> Self {
        Self { verdict: answer.verdict, at: At::Far, words: answer.words }
    }

    /// The flow's stream gave no answer.
    pub fn of_stream(error: &StreamError) -> Self {
        let verdict = match error {
            StreamError::NoDescriptor | StreamError::PeerNoDescriptor => Verdict::Exhausted,
            _ => Verdict::Failed,
        };
        Self { verdict, at: At::Far, words: error.to_string() }
    }

    /// What the side that opened a stream is told.
    pub fn answer(&self) -> Answer {
        Answer { verdict: self.verdict, words: self.words.clone() }
    }

    /// Nothing that a target did or did not do: it says nothing about whether it lives.
    pub fn is_own(&self) -> bool {
        matches!(self.verdict, Verdict::Exhausted | Verdict::NotPermitted | Verdict::Stopping | Verdict::Version)
    }

    /// A word for logs and counters.
    pub fn label(&self) -> &'static str {
        match (self.at, self.verdict) {
            (At::Allocation, Verdict::UnknownHost) => "unknown name",
            (At::Allocation, Verdict::NoTarget) => "nobody accepts",
            (At::Allocation, Verdict::Refused) => "flow refused",
            (At::Allocation, Verdict::TimedOut) => "allocation timed out",
            (_, Verdict::Connected) => "connected",
            (_, Verdict::Refused) => "refused",
            (_, Verdict::Unreachable) => "unreachable",
            (_, Verdict::TimedOut) => "timed out",
            (_, Verdict::UnknownHost) => "unknown host",
            (_, Verdict::NotPermitted) => "not permitted",
            (_, Verdict::Exhausted) => "exhausted",
            (_, Verdict::NoTarget) => "no target",
            (_, Verdict::Version) => "other version",
            (_, Verdict::Stopping) => "stopping",
            _ => "failed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.at == At::Far { "far side: " } else { "" };
        match self.words.is_empty() {
            true => write!(f, "{at}{}", self.verdict),
            false => write!(f, "{at}{}: {}", self.label(), self.words),
        }
    }
}

impl Cause {
    /// A cause whose kind says all.
    pub const fn plain(broken: Broken) -> Self {
        Self { broken, words: None }
    }

    /// A cause with words.
    pub fn said(broken: Broken, words: impl fmt::Display) -> Self {
        Self { broken, words: Some(words.to_string().into()) }
    }

    /// What the kernel said of a socket.
    pub fn of_errno(errno: i32) -> Self {
        match errno {
            // EPIPE: a reset that came behind an end, or a write after one.
            libc::ECONNRESET | libc::EPIPE | libc::ECONNREFUSED | libc::ENOTCONN | libc::ECONNABORTED => {
                Self::plain(Broken::Reset)
            }
            libc::ETIMEDOUT => Self::plain(Broken::TimedOut),
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN => {
                Self::plain(Broken::Unreachable)
            }
            other => Self::said(Broken::Failed, io::Error::from_raw_os_error(other)),
        }
    }

    /// What reading or writing a flow's stream, or a socket, came to.
    pub fn of_io(error: &io::Error) -> Self {
        if let Some(stream) = error.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>()) {
            return Self::of_stream(stream);
        }
        if let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            return cause.clone();
        }
        match error.raw_os_error() {
            Some(errno) => Self::of_errno(errno),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::said(Broken::Truncated, error),
            None => Self::said(Broken::Failed, error),
        }
    }

    /// What a flow's stream came to.
    pub fn of_stream(error: &StreamError) -> Self {
        match error {
            StreamError::Reset(reason) | StreamError::Stopped(reason) => Self::plain(Broken::from_code(reason.0)),
            StreamError::Over(over) => Self::said(Broken::FlowGone, over),
            other => Self::said(Broken::Failed, other),
        }
    }
}

impl std::error::Error for Cause {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{}: {words}", self.broken),
            None => write!(f, "{}", self.broken),
        }
    }
}

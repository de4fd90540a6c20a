//! Why something did not work: one small enum per operation. Each says in a sentence what happened, to what, and
//! what to do next.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use proto::v1::{Failure, FailureKind};

use crate::peer::EndReason;

/// The runtime of this process' flows could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// No run directory was given, and none could be guessed.
    #[error("{0}")]
    NoRunDir(#[from] proto::RunDirError),
    /// The background thread could not be started.
    #[error("libflow's thread cannot be started ({0}); raise the limit of threads or memory")]
    Thread(#[source] io::Error),
}

/// irmd, or the daemon that holds a flow's socket, did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Unreachable {
    /// The socket that was tried.
    pub path: PathBuf,
    text: String,
    /// The innermost cause, where the text may have to be put in other words.
    cause: String,
}

impl Unreachable {
    pub(crate) fn irmd(path: &std::path::Path, cause: impl std::fmt::Display) -> Self {
        let dir = path.parent().unwrap_or(path).display();
        let text = format!(
            "irmd cannot be reached on {} ({cause}); start it with `irmd --run-dir {dir}`, or name another run directory",
            path.display()
        );
        Self { path: path.to_path_buf(), text, cause: String::new() }
    }

    pub(crate) fn irmd_silent(path: &std::path::Path, waited: Duration) -> Self {
        let text = format!(
            "irmd on {} took the request and has not answered for {waited:?}; look at its log, or restart it",
            path.display()
        );
        Self { path: path.to_path_buf(), text, cause: String::new() }
    }

    pub(crate) fn irmd_ended(path: &std::path::Path, name: &str) -> Self {
        let text = format!(
            "irmd on {} ended while it allocated a flow to {name}; one that was granted meanwhile ends by itself, so \
             allocate again if {name} may be asked twice",
            path.display()
        );
        Self { path: path.to_path_buf(), text, cause: String::new() }
    }

    pub(crate) fn handoff(path: &std::path::Path, cause: impl std::fmt::Display) -> Self {
        let cause = cause.to_string();
        let text = format!(
            "the daemon that holds the flow's socket cannot be reached on {} ({cause}); \
             see `irm ipcp list` whether it runs, then allocate again",
            path.display()
        );
        Self { path: path.to_path_buf(), text, cause }
    }

    /// The same of irmd's own lease: no IPCP is to blame.
    pub(crate) fn of_irmd(self) -> Self {
        let text = format!("irmd cannot be reached on {}: {}", self.path.display(), self.cause);
        Self { text, ..self }
    }
}

/// No flow was allocated.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AllocError {
    /// No layer reaches the name, or its host does not know it.
    #[error("{message}")]
    UnknownName {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// A layer's name server could not be asked, or said no: whether the name exists is not known.
    #[error("{message}")]
    DirectoryFailed {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The accepting program said no.
    #[error("{message}")]
    Refused {
        /// The program's own words; may be empty.
        reason: String,
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The name is known, no program took the flow in time.
    #[error("{message}")]
    NobodyAccepts {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The peer host did not answer.
    #[error("{message}")]
    TimedOut {
        /// Requests sent.
        asked: u32,
        /// What happened, to what, what to do next.
        message: String,
    },
    /// There is no layer of that name on this host.
    #[error("{message}")]
    NoSuchLayer {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// irmd is not there, or does not answer.
    #[error("{0}")]
    IrmdUnreachable(Unreachable),
    /// The flow was allocated, and the daemon that holds its socket is not there.
    #[error("{0}")]
    HandoverUnreachable(Unreachable),
    /// The caller may not.
    #[error("{message}")]
    NotPermitted {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// Who answered is not who is trusted with the name, or could not show who it is.
    #[error("{message}")]
    Untrusted {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The flow was allocated, and its handshake came to nothing.
    #[error("{message}")]
    Handshake {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The layer, or this version, has no such quality of service.
    #[error("{message}")]
    UnsupportedQos {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// Descriptors, ports or a quota ran out.
    #[error("{message}")]
    Exhausted {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The IPC process that reaches the name is not running.
    #[error("{message}")]
    IpcpDown {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The request itself makes no sense: a bad name, too much data.
    #[error("{message}")]
    Invalid {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// Anything else a daemon reports.
    #[error("{message}")]
    Failed {
        /// What happened, to what, what to do next.
        message: String,
    },
}

/// A name is not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ListenError {
    /// irmd is not there, or does not answer.
    #[error("{0}")]
    IrmdUnreachable(Unreachable),
    /// Another user serves the name.
    #[error("{message}")]
    NotPermitted {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// There is no layer of that name on this host.
    #[error("{message}")]
    NoSuchLayer {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The name does not exist, and was not to be created.
    #[error("{message}")]
    UnknownName {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// The request itself makes no sense: a bad name.
    #[error("{message}")]
    Invalid {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// Anything else a daemon reports.
    #[error("{message}")]
    Failed {
        /// What happened, to what, what to do next.
        message: String,
    },
}

/// A program did not become a member of a group.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JoinError {
    /// The member's name cannot be served, or irmd not be asked.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Somebody else has the name.
    #[error("the group {group} has a member {member} already; join under another name")]
    Taken {
        /// The group.
        group: String,
        /// Who.
        member: String,
    },
    /// There is no room.
    #[error("the group {group} has {most} members already, as many as it may; come back when one has left")]
    Full {
        /// The group.
        group: String,
        /// Members that it may have.
        most: usize,
    },
}

/// A flow was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcceptError {
    /// Nobody asked for a flow in time.
    #[error("no flow arrived within {0:?}")]
    TimedOut(Duration),
    /// The one flow is gone before it could be accepted; the next may come.
    #[error("{message}")]
    Gone {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// irmd is not there, or does not answer.
    #[error("{0}")]
    IrmdUnreachable(Unreachable),
    /// The daemon that holds the flow's socket is not there; the next flow may come.
    #[error("{0}")]
    HandoverUnreachable(Unreachable),
    /// The name is no longer this process'.
    #[error("{message}")]
    NotPermitted {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// Descriptors or a quota ran out; the flow was not taken.
    #[error("{message}")]
    Exhausted {
        /// What happened, to what, what to do next.
        message: String,
    },
    /// Anything else a daemon reports.
    #[error("{message}")]
    Failed {
        /// What happened, to what, what to do next.
        message: String,
    },
}

/// An SDU was not sent or not received.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The flow is over. What had been received has been read.
    #[error("the flow is gone: {0}; allocate a new one")]
    Gone(EndReason),
    /// An SDU has at least one byte.
    #[error("an SDU has at least one byte; there are no empty SDUs")]
    Empty,
    /// The SDU is longer than the flow carries.
    #[error("an SDU of {len} bytes does not fit this flow, which carries {limit} at most; send less at once")]
    TooLong {
        /// [`crate::Flow::sdu_limit`] now; it may have shrunk with the path's MTU.
        limit: usize,
        /// The SDU's length.
        len: usize,
    },
    /// The buffer was shorter than the SDU, which is lost.
    #[error("an SDU of {len} bytes came, the buffer has room for {room}, the rest is lost; receive into more")]
    Truncated {
        /// The SDU's length.
        len: usize,
        /// The buffer's.
        room: usize,
    },
    /// The time given for a blocking call is over.
    #[error("nothing happened within {0:?}")]
    TimedOut(Duration),
    /// A `try_` call would have had to wait.
    #[error("the flow is not ready; wait for it and try again")]
    WouldBlock,
    /// The kernel refused for another reason.
    #[error("the flow's socket failed: {0}")]
    Io(#[from] io::Error),
}

/// A call to a daemon failed; what each operation makes its own error of.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// Nothing was asked of irmd, or what may be asked twice.
    Irmd(Unreachable),
    /// irmd ended while it did what must not be asked twice.
    Ended(Unreachable),
    Handoff(Unreachable),
    Failed(Failure),
}

impl CallError {
    /// What a peer is told of it.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Failed(failure) => failure.message.clone(),
            _ => "its irmd cannot be asked who may allocate".to_owned(),
        }
    }
}

impl From<CallError> for AllocError {
    fn from(error: CallError) -> Self {
        let Failure { kind, message, reason, asked } = match error {
            CallError::Irmd(unreachable) | CallError::Ended(unreachable) => return Self::IrmdUnreachable(unreachable),
            CallError::Handoff(unreachable) => return Self::HandoverUnreachable(unreachable),
            CallError::Failed(failure) => failure,
        };
        match FailureKind::try_from(kind).unwrap_or_default() {
            FailureKind::UnknownName | FailureKind::NotFound => Self::UnknownName { message },
            FailureKind::DirectoryFailed => Self::DirectoryFailed { message },
            FailureKind::Refused => Self::Refused { reason, message },
            FailureKind::NobodyAccepts => Self::NobodyAccepts { message },
            FailureKind::TimedOut => Self::TimedOut { asked, message },
            FailureKind::NoSuchLayer => Self::NoSuchLayer { message },
            FailureKind::NotPermitted => Self::NotPermitted { message },
            FailureKind::Untrusted => Self::Untrusted { message },
            FailureKind::UnsupportedQos => Self::UnsupportedQos { message },
            FailureKind::Exhausted => Self::Exhausted { message },
            FailureKind::IpcpDown | FailureKind::Recovering | FailureKind::ShuttingDown => Self::IpcpDown { message },
            FailureKind::Invalid => Self::Invalid { message },
            _ => Self::Failed { message },
        }
    }
}

impl From<CallError> for ListenError {
    fn from(error: CallError) -> Self {
        let Failure { kind, message, .. } = match error {
            CallError::Irmd(unreachable) | CallError::Ended(unreachable) | CallError::Handoff(unreachable) => {
                return Self::IrmdUnreachable(unreachable);
            }
            CallError::Failed(failure) => failure,
        };
        match FailureKind::try_from(kind).unwrap_or_default() {
            FailureKind::UnknownName | FailureKind::NotFound => Self::UnknownName { message },
            FailureKind::NoSuchLayer => Self::NoSuchLayer { message },
            FailureKind::NotPermitted => Self::NotPermitted { message },
            FailureKind::Invalid => Self::Invalid { message },
            _ => Self::Failed { message },
        }
    }
}

impl From<CallError> for AcceptError {
    fn from(error: CallError) -> Self {
        let Failure { kind, message, .. } = match error {
            CallError::Irmd(unreachable) | CallError::Ended(unreachable) => return Self::IrmdUnreachable(unreachable),
            CallError::Handoff(unreachable) => return Self::HandoverUnreachable(unreachable),
            CallError::Failed(failure) => failure,
        };
        match FailureKind::try_from(kind).unwrap_or_default() {
            FailureKind::FlowGone | FailureKind::TimedOut | FailureKind::NobodyAccepts => Self::Gone { message },
            FailureKind::NotPermitted => Self::NotPermitted { message },
            FailureKind::Exhausted => Self::Exhausted { message },
            _ => Self::Failed { message },
        }
    }
}

impl From<io::Error> for AllocError {
    /// The flow's socket, or a thread for it, is not to be had.
    fn from(error: io::Error) -> Self {
        Self::Failed {
            message: format!("the flow's socket cannot be used: {error}; raise the limits and allocate again"),
        }
    }
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        Self::Failed {
            message: format!("the flow's socket cannot be used: {error}; raise the limits and accept again"),
        }
    }
}

impl AcceptError {
    pub(crate) fn of(error: CallError, within: Option<Duration>) -> Self {
        match (error, within) {
            (CallError::Failed(failure), Some(within)) if failure.kind() == FailureKind::TimedOut => {
                Self::TimedOut(within)
            }
            (error, _) => error.into(),
        }
    }
}

impl From<StackError> for AllocError {
    fn from(error: StackError) -> Self {
        Self::Failed { message: error.to_string() }
    }
}

impl ListenError {
    /// There is no thread for it.
    pub(crate) fn from_io(error: io::Error) -> Self {
        Self::Failed { message: format!("no thread can be had: {error}; raise the limits and try again") }
    }
}

impl From<StackError> for ListenError {
    fn from(error: StackError) -> Self {
        Self::Failed { message: error.to_string() }
    }
}

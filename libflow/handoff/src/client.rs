//! The program's half: opens a lease, redeems tokens, counts into the statistics slots.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

pub use crate::io::client::{Receiver, Sender, open};
pub use crate::io::slots::{Figures, Slot, SlotMap};
pub use proto::v1::{Counters, EndReason, Failure};

use proto::FlowId;
use proto::shim::{Binding, Unwanted};

/// Why a lease could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Nobody listens there, or the path cannot be reached.
    Unreachable(std::io::Error),
    /// The daemon said no: another version, too many leases.
    Denied(Failure),
    /// What answered does not speak this protocol.
    Protocol(&'static str),
    /// It took the connection and said nothing for this long.
    Silent(std::time::Duration),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "nobody answers on the hand-over socket: {error}"),
            Self::Denied(failure) => failure.fmt(f),
            Self::Silent(waited) => write!(f, "it has not answered for {waited:?}; look at its log, or restart it"),
            Self::Protocol(what) => {
                write!(f, "the hand-over socket is not a Flowring daemon's of this version: {what}")
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// What the daemon says on an open lease.
#[derive(Debug)]
pub enum Said {
    /// A token or a ticket was honoured.
    Granted {
        /// The token that was redeemed, or the ticket that was presented.
        asked: Vec<u8>,
        /// The flow's id on this host.
        flow: FlowId,
        /// Where to count.
        slot: Slot,
        /// Longest SDU, bytes.
        sdu_limit: u32,
        /// To present after a restart of the daemon.
        ticket: Vec<u8>,
        /// What to drop of what comes; nothing for a ticket, whose presenter knows.
        unwanted: Option<Unwanted>,
        /// What request and answer said, for the handshake; none for raw and local flows, and for a ticket, whose flow has
        /// its handshake behind it.
        binding: Option<Binding>,
        /// The socket's connection to its peer is not the program's to dissolve.
        fixed: bool,
        /// It may move: what comes that is a rendezvous' or the peer's daemon's is to be handed over.
        movable: bool,
        /// The flow's socket, in blocking mode; `None` for a ticket, whose presenter has it.
        socket: Option<OwnedFd>,
    },
    /// A token or a ticket was not honoured.
    Denied {
        /// The token that was redeemed, or the ticket that was presented.
        asked: Vec<u8>,
        /// Why.
        failure: Failure,
    },
    /// A movable flow's peer is elsewhere from now on.
    Moved {
        /// The flow.
        flow: FlowId,
        /// Where.
        peer: SocketAddr,
        /// To present from now on.
        ticket: Vec<u8>,
    },
    /// A flow is over; SDUs already queued can still be read.
    Gone {
        /// The flow.
        flow: FlowId,
        /// Why.
        reason: EndReason,
    },
}

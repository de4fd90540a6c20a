//! The daemon's half: offers flows' sockets under one-time tokens, keeps programs' leases.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::shim::{Binding, Unwanted};
use proto::{FlowId, Token};

pub use crate::io::server::Server;
pub use crate::io::slots::Figures;
pub use proto::v1::{Counters, EndReason, Failure};

/// Longest ticket, bytes.
pub const MAX_TICKET: usize = 512;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the SEQPACKET socket is bound; open to every user, the credentials decide.
    pub path: PathBuf,
    /// Statistics slots per lease: the most flows one lease can hold. The memory is sparse.
    pub slots: u32,
    /// Leases in all; one more is told why not and closed.
    pub max_leases: usize,
    /// Leases of one user's processes; one more is told why not and closed.
    pub max_leases_per_user: usize,
    /// Users who may have as many as there are: root and the daemon's own, unless changed.
    pub unlimited_users: Vec<u32>,
    /// An offered token that nobody redeems for this long is void ([`Event::NotTaken`]).
    pub take_within: Duration,
}

impl Config {
    /// 16,384 slots per lease, 4,096 leases, 1,024 of them of one user, tokens that live 5 s.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            slots: 16_384,
            max_leases: 4096,
            max_leases_per_user: 1024,
            unlimited_users: vec![0, rustix::process::geteuid().as_raw()],
            take_within: Duration::from_secs(5),
        }
    }
}

/// The process behind a lease, as the kernel knew it when the lease began (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Process number; numbers recycle, but not while the lease lives.
    pub pid: u32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// Who may redeem a token: both must be those of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Effective user.
    pub uid: u32,
    /// Process number.
    pub pid: u32,
}

/// One end of a flow, ready to be taken.
#[derive(Clone, Debug)]
pub struct Offer {
    /// One use, until `Config::take_within` is over.
    pub token: Token,
    /// The flow's id on this host; not offered or held already.
    pub flow: FlowId,
    /// The only process that may take it.
    pub owner: Owner,
    /// The daemon's descriptor. The program gets a duplicate; both share one file description, so it stays in
    /// blocking mode.
    pub socket: Arc<OwnedFd>,
    /// Longest SDU, bytes.
    pub sdu_limit: u32,
    /// What the program shows to take the flow back after the daemon's restart; at most [`MAX_TICKET`] bytes.
    pub ticket: Vec<u8>,
    /// Datagrams on the socket that the program is to drop, since no filter of the socket does.
    pub unwanted: Option<Unwanted>,
    /// What request and answer said, for the handshake; none for raw and local flows.
    pub binding: Option<Binding>,
    /// The program must not dissolve the socket's connection to its peer, unless the flow is movable.
    pub fixed: bool,
    /// It may move ([`Server::moved`]): the program hands over what comes to its socket and is not its
    /// ([`Event::Heard`]).
    pub movable: bool,
}

/// One flow that a program hands back after a restart of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdoptionId(pub(crate) u64);

/// What a server tells its daemon. Events wait in order while the daemon does not read; programs wait behind them.
#[derive(Debug)]
pub enum Event {
    /// A program has opened a lease.
    LeaseOpened(Process),
    /// A lease has ended: by the program's end, its will, or its breach of the protocol.
    LeaseClosed {
        /// Whose it was.
        process: Process,
        /// Flows it held and neither released nor was told to be gone. They are forgotten here already.
        flows: Vec<FlowId>,
        /// What they had carried, in the same order.
        figures: Vec<Figures>,
        /// The process has no other lease with this server.
        last_of_process: bool,
    },
    /// The program's end has been sent to it.
    Taken {
        /// The flow.
        flow: FlowId,
        /// Who took it.
        process: Process,
    },
    /// Nobody took the flow in time, or it could not be handed over; it is forgotten here already.
    NotTaken {
        /// The flow.
        flow: FlowId,
    },
    /// The program is done with the flow. Its statistics can be read until [`Server::forget`], or the program's end.
    Released {
        /// The flow.
        flow: FlowId,
        /// What it had carried: its program may be gone when this is read.
        counters: Counters,
    },
    /// The program's kernel reported the peer's port unreachable.
    Suspect {
        /// The flow.
        flow: FlowId,
    },
    /// A datagram came to the socket of a movable flow, and is no program's. Nothing of it is verified.
    Heard {
        /// The flow.
        flow: FlowId,
        /// From where, as the program says.
        from: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// A program hands a flow back after the daemon's restart; answer with [`Server::adopted`] or
    /// [`Server::denied`]. Nothing of it is verified but the process.
    Adopt {
        /// Names this event in the answer.
        adoption: AdoptionId,
        /// Who hands it back.
        process: Process,
        /// What the daemon once sealed.
        ticket: Vec<u8>,
        /// Claimed to be the flow's socket.
        socket: OwnedFd,
        /// Claimed to be carried so far.
        counters: Counters,
    },
}

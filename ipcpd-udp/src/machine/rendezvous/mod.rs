//! Flows through NATs, with the help of a rendezvous: docs/rendezvous.md.
//!
//! * [`member`]: this shim in its session, on the listen port.
//! * [`attempt`]: one flow's socket, from the server's introduction to a path.
//! * [`punch`]: the hellos between two flows' sockets, a part of that.
//! * `guesses`: how many hellos go where nobody but another member says that it is.
//! * [`trouble`]: why two sides do not meet.
//! * [`nat`]: what stands before this host, and why two kinds do not reach each other.

use std::net::SocketAddr;

use proto::HostId;
use proto::rendezvous::{SessionId, SessionKey};

pub mod attempt;
mod guesses;
pub mod member;
pub mod nat;
pub mod predict;
pub mod punch;
pub mod search;
#[cfg(test)]
pub(in crate::machine) mod tests;
pub mod trouble;

/// Who this host is in which session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The session.
    pub id: SessionId,
    /// Seals what is said to the server, and by it.
    pub key: SessionKey,
    /// This host.
    pub host: HostId,
    /// What it does where hellos to known addresses come to nothing.
    pub punch: predict::Level,
}

/// The session that a layer's members meet in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// The server's host, a name or an address, and its port.
    pub server: String,
    /// What the session is called.
    pub name: String,
    /// As datagrams have it.
    pub session: Session,
}

/// Datagrams to be sent, in order, and where to.
pub type Sends = std::collections::VecDeque<(SocketAddr, Vec<u8>)>;

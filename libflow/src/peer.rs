//! Who is at the other end, how it ended, what was carried.

use std::fmt;

use proto::v1;

/// Who is at the other end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name the flow was allocated to.
    pub name: String,
    /// Who asked for the flow: "John Day" for a classic caller, empty when it did not say.
    pub source: String,
    /// The peer's address and port, "10.0.0.2:40123"; empty for a flow within this host.
    pub address: String,
    /// The layer that carries the flow; "local" within this host.
    pub layer: String,
    /// The peer is a classic shim (2016): no deallocation is told, no identity is known.
    pub classic: bool,
    /// Who the peer proved to be: on message and stream flows between hosts.
    pub identity: Option<Identity>,
}

/// Who the peer's host proved to be in the handshake, and what makes this host believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Fingerprint of the host's key, "SHA256:…".
    pub host: String,
    /// The name that its host vouches for: of the server always, of who asks if it may serve that name itself. Empty: none.
    pub name: String,
    /// What it was trusted by: "ca", "pin", "directory", "first use", "remembered", "allowed", "any".
    pub trusted_by: String,
}

impl Peer {
    pub(crate) fn of(handle: &v1::FlowHandle) -> Self {
        Self {
            name: handle.name.clone(),
            source: handle.source_name.clone(),
            address: handle.peer_address.clone(),
            layer: handle.layer.clone(),
            classic: handle.classic,
            identity: None,
        }
    }
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum EndReason {
    /// The socket was closed and no daemon said why.
    Unknown = 1,
    /// This side deallocated it.
    Deallocated,
    /// The peer's program deallocated it.
    PeerDeallocated,
    /// The peer's program ended without deallocating it.
    PeerDied,
    /// The peer was silent for too long.
    PeerTimedOut,
    /// The peer's host has no such flow (any more).
    PeerUnknown,
    /// `irm flow dealloc`.
    Admin,
    /// The IPC process that carried it was destroyed.
    IpcpStopped,
    /// It was not taken in time.
    NeverTaken,
    /// This host has another address than the one that it was on.
    AddressGone,
}

impl EndReason {
    const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Deallocated,
        Self::PeerDeallocated,
        Self::PeerDied,
        Self::PeerTimedOut,
        Self::PeerUnknown,
        Self::Admin,
        Self::IpcpStopped,
        Self::NeverTaken,
        Self::AddressGone,
    ];

    /// The reason of an atomic's value; `None` for 0, the flow that lives.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }
}

impl From<v1::EndReason> for EndReason {
    fn from(reason: v1::EndReason) -> Self {
        match reason {
            v1::EndReason::Unspecified => Self::Unknown,
            v1::EndReason::Deallocated | v1::EndReason::ProgramDied => Self::Deallocated,
            v1::EndReason::PeerDeallocated => Self::PeerDeallocated,
            v1::EndReason::PeerDied => Self::PeerDied,
            v1::EndReason::PeerTimedOut => Self::PeerTimedOut,
            v1::EndReason::PeerUnknown => Self::PeerUnknown,
            v1::EndReason::Admin => Self::Admin,
            v1::EndReason::IpcpStopped => Self::IpcpStopped,
            v1::EndReason::NeverTaken => Self::NeverTaken,
            v1::EndReason::AddressGone => Self::AddressGone,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "its socket was closed",
            Self::Deallocated => "this program deallocated it",
            Self::PeerDeallocated => "the peer deallocated it",
            Self::PeerDied => "the peer's program ended",
            Self::PeerTimedOut => "the peer was silent for too long",
            Self::PeerUnknown => "the peer's host does not know it any more",
            Self::Admin => "it was deallocated with irm",
            Self::IpcpStopped => "its IPC process was stopped",
            Self::NeverTaken => "it was not taken in time",
            Self::AddressGone => "this host has another address than the one that it was on; allocate it again",
        })
    }
}

/// What a flow has carried, counted at this end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// SDUs sent.
    pub sdus_sent: u64,
    /// Bytes sent, without headers.
    pub bytes_sent: u64,
    /// SDUs received.
    pub sdus_received: u64,
    /// Bytes received, without headers.
    pub bytes_received: u64,
    /// Sends that failed.
    pub send_errors: u64,
    /// Receives that failed.
    pub receive_errors: u64,
}

impl From<v1::Counters> for Counters {
    fn from(c: v1::Counters) -> Self {
        Self {
            sdus_sent: c.sdus_sent,
            bytes_sent: c.bytes_sent,
            sdus_received: c.sdus_received,
            bytes_received: c.bytes_received,
            send_errors: c.send_errors,
            receive_errors: c.receive_errors,
        }
    }
}

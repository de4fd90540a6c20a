//! What the ledger wants done.

use std::net::SocketAddr;

use proto::handoff::ToProgram;
use proto::v1::Counters;
use proto::{FlowId, Token};

use crate::server::{AdoptionId, Process};

/// A program's lease, as the server numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LeaseId(pub(crate) u64);

/// An output of the ledger; `S` is the flow's socket.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect<S> {
    /// Make the statistics memory and say Welcome with it.
    Welcome { lease: LeaseId, slots: u32 },
    /// Send a packet.
    Say { lease: LeaseId, packet: ToProgram },
    /// Write `counters` into a slot before its new flow uses it.
    SetSlot { lease: LeaseId, slot: u32, counters: Counters },
    /// Read a slot whose flow is over, and say what it held (`counted`), with what was `seen` of it before.
    Count { lease: LeaseId, slot: u32, seen: Counters },
    /// Send the packet with the socket beside it, and say how it went (`granted`).
    Grant { lease: LeaseId, flow: FlowId, token: Token, packet: ToProgram, socket: S },
    /// Send what is queued, then end the lease.
    Close { lease: LeaseId, why: &'static str },
    /// Tell the daemon.
    Tell(Told),
}

/// What the daemon is told.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    LeaseOpened(Process),
    LeaseClosed {
        lease: LeaseId,
        process: Process,
        /// With the slots they had.
        flows: Vec<(FlowId, u32)>,
        last_of_process: bool,
    },
    Taken {
        flow: FlowId,
        process: Process,
    },
    NotTaken {
        flow: FlowId,
    },
    Released {
        flow: FlowId,
    },
    Suspect {
        flow: FlowId,
    },
    Heard {
        flow: FlowId,
        from: SocketAddr,
        datagram: Vec<u8>,
    },
    /// The descriptor is the one that came beside the packet just handled.
    Adopt {
        adoption: AdoptionId,
        process: Process,
        ticket: Vec<u8>,
        counters: Counters,
    },
}

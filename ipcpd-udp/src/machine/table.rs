//! The transition table, written down. Every change of a flow's state is checked against it in debug builds;
//! docs/shim-udp.md carries the same table, made by [`text`].

use std::fmt::Write;

macro_rules! words {
    ($(#[$doc:meta])* $kind:ident { $($name:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind { $(#[doc = $text] $name),* }

        impl $kind {
            /// As it stands in the table.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

words! {
    /// A state without its data.
    Phase {
        New = "(new)",
        Opening = "opening",
        Meeting = "meeting",
        Asking = "asking",
        Promised = "promised",
        Knocking = "knocking",
        Joining = "joining",
        Reserving = "reserving",
        Waiting = "waiting",
        Refusing = "refusing",
        Accepting = "accepting",
        Offered = "offered",
        Held = "held",
        Probing = "probing",
        Flushing = "flushing",
        Telling = "telling",
        Draining = "draining",
        Over = "over",
    }
}

words! {
    /// What made a state change.
    Cause {
        FlowAlloc = "flow_alloc",
        Opened = "socket opened",
        NoSocket = "no socket",
        Pending = "answer: pending",
        Accepted = "answer: accepted, or a classic echo",
        Aside = "answer: accepted, from the listen port",
        PathOpen = "control: opened",
        Refused = "answer: refusal",
        Unreachable = "unreachable twice in a row",
        Deadline = "deadline",
        Cancelled = "cancelled",
        Connected = "socket connected",
        Request = "request",
        ProgramAccepted = "program accepted",
        ProgramRefused = "program refused",
        Taken = "program took the socket",
        NotTaken = "program did not take the socket",
        Released = "program released the flow, or died",
        Admin = "deallocated by irmd",
        Suspect = "port unreachable on the flow",
        Rebooted = "peer's shim restarted",
        Unconfirmed = "brought back, peer's shim answers",
        TimedOut = "peer silent for the flow's timeout",
        Alive = "control: alive",
        Unanswered = "probes unanswered",
        NoSuchFlow = "control: no such flow",
        PeerDealloc = "control: dealloc",
        Sent = "send queue empty, or 1 s over",
        Acked = "control: dealloc ack, or told 8 times",
        Read = "receive queue empty and grace over, or 2 s over",
        Adopted = "adopted after a restart",
        Introduced = "introduced by the rendezvous",
        PathFound = "a path was found",
        NoPath = "no path was found",
    }
}

use Cause as C;
use Phase as P;

/// Every transition there is: in this state, for this cause, to that state.
pub const TABLE: &[(Phase, Cause, Phase)] = &[
    // The asking side.
    (P::New, C::FlowAlloc, P::Opening),
    (P::Opening, C::Opened, P::Asking),
    (P::Opening, C::NoSocket, P::Over),
    (P::Opening, C::Cancelled, P::Over),
    (P::Asking, C::Pending, P::Promised),
    (P::Asking, C::Accepted, P::Joining),
    (P::Asking, C::Aside, P::Knocking),
    (P::Asking, C::Refused, P::Over),
    (P::Asking, C::Unreachable, P::Over),
    (P::Asking, C::Deadline, P::Over),
    (P::Asking, C::Cancelled, P::Over),
    (P::Promised, C::Accepted, P::Joining),
    (P::Promised, C::Aside, P::Knocking),
    (P::Promised, C::Refused, P::Over),
    (P::Promised, C::Unreachable, P::Over),
    (P::Promised, C::Deadline, P::Telling),
    (P::Promised, C::Cancelled, P::Telling),
    (P::Knocking, C::PathOpen, P::Joining),
    (P::Knocking, C::Accepted, P::Joining),
    (P::Knocking, C::NoSuchFlow, P::Over),
    (P::Knocking, C::Deadline, P::Telling),
    (P::Knocking, C::Cancelled, P::Telling),
    (P::Joining, C::Connected, P::Offered),
    (P::Joining, C::NoSocket, P::Telling),
    (P::Joining, C::NoSocket, P::Over),
    (P::Joining, C::Cancelled, P::Telling),
    (P::Joining, C::Cancelled, P::Over),
    // The asking side, through a rendezvous.
    (P::Opening, C::Opened, P::Meeting),
    (P::Meeting, C::PathFound, P::Asking),
    (P::Meeting, C::NoPath, P::Over),
    (P::Meeting, C::Cancelled, P::Over),
    // The accepting side.
    (P::New, C::Request, P::Reserving),
    (P::Reserving, C::Opened, P::Waiting),
    (P::Reserving, C::Connected, P::Waiting),
    (P::Reserving, C::NoSocket, P::Over),
    (P::Waiting, C::ProgramAccepted, P::Accepting),
    (P::Waiting, C::ProgramAccepted, P::Offered),
    (P::Waiting, C::ProgramRefused, P::Over),
    (P::Waiting, C::Deadline, P::Over),
    (P::Waiting, C::PeerDealloc, P::Over),
    (P::Accepting, C::Connected, P::Offered),
    (P::Accepting, C::NoSocket, P::Over),
    (P::Accepting, C::PeerDealloc, P::Over),
    (P::Accepting, C::Admin, P::Over),
    // The accepting side, through a rendezvous.
    (P::New, C::Introduced, P::Meeting),
    (P::Meeting, C::NoSocket, P::Over),
    (P::Meeting, C::Admin, P::Over),
    (P::Meeting, C::Request, P::Waiting),
    (P::Waiting, C::ProgramRefused, P::Refusing),
    (P::Waiting, C::Deadline, P::Refusing),
    (P::Accepting, C::NoSocket, P::Refusing),
    (P::Accepting, C::Admin, P::Refusing),
    (P::Refusing, C::Deadline, P::Over),
    // Both.
    (P::Offered, C::Taken, P::Held),
    (P::Offered, C::NotTaken, P::Flushing),
    (P::Offered, C::NotTaken, P::Over),
    (P::Offered, C::Released, P::Flushing),
    (P::Offered, C::Released, P::Over),
    (P::Offered, C::Admin, P::Flushing),
    (P::Offered, C::Admin, P::Over),
    (P::Offered, C::PeerDealloc, P::Draining),
    (P::Offered, C::NoSuchFlow, P::Draining),
    (P::Offered, C::TimedOut, P::Draining),
    (P::New, C::Adopted, P::Held),
    (P::Held, C::Released, P::Flushing),
    (P::Held, C::Released, P::Over),
    (P::Held, C::Admin, P::Flushing),
    (P::Held, C::Admin, P::Over),
    (P::Held, C::Suspect, P::Probing),
    (P::Held, C::Suspect, P::Draining),
    (P::Held, C::Rebooted, P::Probing),
    (P::Held, C::Unconfirmed, P::Probing),
    (P::Held, C::PeerDealloc, P::Draining),
    (P::Held, C::NoSuchFlow, P::Draining),
    (P::Held, C::TimedOut, P::Draining),
    (P::Probing, C::Alive, P::Held),
    (P::Probing, C::Unanswered, P::Held),
    (P::Probing, C::NoSuchFlow, P::Draining),
    (P::Probing, C::PeerDealloc, P::Draining),
    (P::Probing, C::TimedOut, P::Draining),
    (P::Probing, C::Released, P::Flushing),
    (P::Probing, C::Admin, P::Flushing),
    (P::Flushing, C::Sent, P::Telling),
    (P::Flushing, C::PeerDealloc, P::Over),
    (P::Telling, C::Acked, P::Over),
    (P::Telling, C::PeerDealloc, P::Over),
    (P::Draining, C::Read, P::Over),
    (P::Draining, C::NotTaken, P::Over),
    (P::Draining, C::Released, P::Over),
    (P::Draining, C::Admin, P::Over),
];

/// Whether the table has the transition.
pub fn allowed(from: Phase, cause: Cause, to: Phase) -> bool {
    TABLE.contains(&(from, cause, to))
}

/// The table as a table of docs/shim-udp.md.
pub fn text() -> String {
    let mut out = String::from("| state | when | next state |\n|---|---|---|\n");
    for (from, cause, to) in TABLE {
        writeln!(out, "| {} | {} | {} |", from.as_str(), cause.as_str(), to.as_str()).expect("a String grows");
    }
    out
}

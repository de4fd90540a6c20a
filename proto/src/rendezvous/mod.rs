//! Datagrams between members of a session, their rendezvous, and each other; layouts in docs/rendezvous.md.
//!
//! Hosts behind NATs find each other at a well-known server (Kegel's scheme, `docs/rendezvous.md`). All these datagrams have one
//! form: a header laid out as that of [`shim::Control`](crate::shim::Control), so that one that comes late to a flow's socket
//! is kept from its program by the same filter; fields; a seal; zeros up to [`DATAGRAM`] where the sender asks something, so
//! that no answer is larger than what it answers.
//!
//! * [`Envelope`]: a datagram whose header makes sense. What it says is believed only once its seal was checked.
//! * [`Said`]: what it says.
//! * [`SessionKey`]: seals what member and server say. [`AttemptKey`]: seals what two members say about one flow.
//!
//! Every decoder is total: any bytes give a value or a [`Malformed`] that names why.

mod address;
mod field;
mod header;
mod key;
mod read;
mod said;
mod write;

pub use crate::shim::{DATAGRAM, Malformed};
pub use address::{is_candidate, is_public};
pub use header::{Envelope, Head};
pub use key::{AttemptKey, SessionId, SessionKey};
pub use said::{
    Bind, Bound, Change, Changes, Filtering, FlowIds, Hello, Introduce, Introduction, Join, Joined, Mapped, Mapping,
    Meet, Meeting, NameChange, NamesAt, Nat, Refusal, Said, Seen,
};

/// The port that a rendezvous listens on unless told otherwise.
pub const PORT: u16 = 3360;

/// Local addresses that a member says at most.
pub const MAX_LOCALS: usize = 8;

/// Longest cookie, bytes.
pub const MAX_COOKIE: usize = 32;

/// Longest payload that is carried from member to member, bytes: a control datagram.
pub const MAX_CARRIED: usize = 64;

/// Kinds of these datagrams begin here; those of [`shim::Control`](crate::shim::Control) are below.
pub const FIRST_KIND: u8 = 32;

/// Whether a datagram is of this family, by its first bytes: not a control datagram, and no name.
pub fn is_ours(bytes: &[u8]) -> bool {
    bytes.len() > 6 && bytes[0] == 0 && bytes[1..].starts_with(&crate::shim::MAGIC) && bytes[6] >= FIRST_KIND
}

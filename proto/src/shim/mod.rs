//! Datagrams between two shim IPC processes; layouts in docs/shim-udp.md.
//!
//! * [`Request`] and [`Answer`]: allocation, on the listen port and the flow's own ports. The classic form is the
//!   bare name (Ouroboros, April 2016; captures in the tests); the extended form adds `NUL`, a header and fields.
//! * [`Control`]: between the listen ports of two extended shims. Begins with NUL, which no name does.
//! * [`Binding`]: request and answer hashed, for the handshake of a message or stream flow.
//!
//! Every decoder is total: any bytes give a value or a [`Malformed`] that names why.

mod allocation;
mod binding;
mod control;
mod field;
mod header;
mod peek;
mod unwanted;

pub use allocation::{Answer, Extension, Request, Verdict, answer_prefix};
pub use binding::{Asked, Binding};
pub use control::{Control, ControlKind, control_prefix};
pub use header::{MAGIC, VERSION};
pub use peek::Peek;
pub use unwanted::Unwanted;

/// The listen port: 0x0D1F.
pub const PORT: u16 = 3359;

/// An extended request is padded to this size and no datagram of ours is longer, bytes.
pub const DATAGRAM: usize = 1200;

/// Longest piggy-back in a request or an answer, bytes.
pub const MAX_DATA: usize = 512;

/// Longest reason given with a refusal, bytes.
pub const MAX_REASON: usize = 200;

/// Longest cookie, bytes.
pub const MAX_COOKIE: usize = 32;

/// How a classic caller is named: its request does not say.
pub const CLASSIC_SOURCE: &str = "John Day";

/// Why bytes are no datagram of ours. Receivers count by it and drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// No bytes: a keep-alive, or noise.
    Empty,
    /// What stands before the first NUL is no [`Name`](crate::Name).
    Name,
    /// Shorter than its own header or fields say.
    Truncated,
    /// A header or field that contradicts itself.
    Header,
    /// A field that must be understood and is not, or whose value is out of bounds.
    Field,
    /// An answer to another name than the one asked for.
    OtherName,
    /// Longer than [`DATAGRAM`].
    TooLong,
    /// Not sealed with the key it should be.
    Seal,
    /// Begins with NUL and is no control datagram of this version.
    NotControl,
}

impl Malformed {
    /// The name of the reason in counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Name => "bad_name",
            Self::Truncated => "truncated",
            Self::Header => "bad_header",
            Self::Field => "bad_field",
            Self::OtherName => "other_name",
            Self::TooLong => "too_long",
            Self::Seal => "bad_seal",
            Self::NotControl => "not_control",
        }
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Malformed {}

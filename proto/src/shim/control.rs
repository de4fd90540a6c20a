//! Control datagrams between two extended shims, listen port to listen port. Two take other ways: OPEN goes from the
//! client's port of the flow to the server's and to the listen port, OPENED from the server's port of the flow to the
//! client's. 40 bytes, numbers in network order:
//!
//! ```text
//!  0  1  0: no name begins so
//!  1  4  "Flow"
//!  5  1  version, 1
//!  6  1  kind
//!  7  1  code: reason or state, by kind
//!  8  8  host id of the sender
//! 16  8  boot id of the sender
//! 24  8  the sender's id of the flow
//! 32  8  the receiver's id of the flow
//! ```
//!
//! Whoever knows both ids speaks for the flow; nobody off the path does.

use super::{MAGIC, Malformed, VERSION};
use crate::{BootId, HostId, WireId};

/// Length of a control datagram, bytes. Longer ones are read up to here: room for fields of later versions.
const LENGTH: usize = 40;
/// Where the receiver's id stands.
pub(super) const RECEIVER: usize = 32;

/// A control datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// What it says.
    pub kind: ControlKind,
    /// The sender's host.
    pub host: HostId,
    /// The sender's ipcpd since its start.
    pub boot: BootId,
    /// The sender's id of the flow.
    pub sender: WireId,
    /// The receiver's id of the flow.
    pub receiver: WireId,
}

/// What a control datagram says of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlKind {
    /// The sender's program is done with the flow. Repeated until acknowledged.
    Dealloc {
        /// The program ended without deallocating.
        died: bool,
    },
    /// A dealloc was heard, or the flow was unknown already.
    DeallocAck,
    /// Do you still have the flow?
    Probe,
    /// Yes.
    Alive,
    /// No.
    NoSuchFlow,
    /// I restarted and do not know yet; the boot id says so.
    Recovering,
    /// The acceptance was heard from the listen port only: opens the client's middlebox towards the server's port of
    /// the flow, and tells the server where the flow comes from.
    Open,
    /// An [`Open`](Self::Open) arrived; said from the server's port of the flow.
    Opened,
    /// The flow's path is gone, as far as the sender knows, which accepted it: the receiver is to look for another. No answer.
    Moved,
}

impl ControlKind {
    fn codes(self) -> [u8; 2] {
        match self {
            Self::Dealloc { died } => [1, u8::from(died)],
            Self::DeallocAck => [2, 0],
            Self::Probe => [3, 0],
            Self::Alive => [4, 0],
            Self::NoSuchFlow => [5, 0],
            Self::Recovering => [6, 0],
            Self::Open => [7, 0],
            Self::Opened => [8, 0],
            Self::Moved => [9, 0],
        }
    }

    fn from_codes(kind: u8, code: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Dealloc { died: code == 1 },
            2 => Self::DeallocAck,
            3 => Self::Probe,
            4 => Self::Alive,
            5 => Self::NoSuchFlow,
            6 => Self::Recovering,
            7 => Self::Open,
            8 => Self::Opened,
            9 => Self::Moved,
            _ => return None,
        })
    }
}

impl Control {
    /// The datagram.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        out[1..5].copy_from_slice(&MAGIC);
        out[5] = VERSION;
        out[6..8].copy_from_slice(&self.kind.codes());
        for (at, number) in [(8, self.host.0), (16, self.boot.0), (24, self.sender.0), (RECEIVER, self.receiver.0)] {
            out[at..at + 8].copy_from_slice(&number.to_be_bytes());
        }
        out
    }

    /// Reads a datagram that begins with NUL.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Err(Malformed::Empty);
        }
        if bytes.len() > super::DATAGRAM {
            return Err(Malformed::TooLong);
        }
        if bytes[0] != 0 || !bytes[1..].starts_with(&MAGIC) {
            return Err(Malformed::NotControl);
        }
        let bytes: &[u8; LENGTH] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        if bytes[5] != VERSION {
            return Err(Malformed::NotControl);
        }
        let kind = ControlKind::from_codes(bytes[6], bytes[7]).ok_or(Malformed::Header)?;
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Ok(Self {
            kind,
            host: HostId(number(8)),
            boot: BootId(number(16)),
            sender: WireId(number(24)),
            receiver: WireId(number(RECEIVER)),
        })
    }
}

/// The bytes that every control datagram of version 1 to the flow `receiver` carries, as (offset, bytes) pairs that a
/// socket filter can compare: the NUL and the magic, then the receiver's id. Keeps them from programs: no SDU reads so
/// but by a chance of 2^-64.
pub fn control_prefix(receiver: WireId) -> [(usize, Vec<u8>); 2] {
    [(0, [&[0], &MAGIC[..]].concat()), (RECEIVER, receiver.0.to_be_bytes().to_vec())]
}

//! Packets on the hand-over socket: one byte of kind, then a protobuf message of `schema/handoff.proto`.
//!
//! The socket is `SOCK_SEQPACKET`, so a packet is a message; [`MAX_PACKET`] bounds it. Descriptors travel beside
//! the packets as `SCM_RIGHTS`, at most one each.

use prost::Message;

use crate::v1::{Adopt, Denied, Gone, Grant, Heard, Hello, Moved, Redeem, Release, Suspect, Welcome};

/// Longest packet, bytes. A longer one is cut by the kernel and does not decode.
pub const MAX_PACKET: usize = 2048;

/// What a program says.
#[derive(Clone, Debug, PartialEq)]
pub enum ToDaemon {
    /// First message of a lease.
    Hello(Hello),
    /// Its end of a flow, please.
    Redeem(Redeem),
    /// Done with a flow.
    Release(Release),
    /// The kernel reported the peer's port unreachable.
    Suspect(Suspect),
    /// (+fd) Take this flow back after your restart.
    Adopt(Adopt),
    /// A datagram came to a movable flow's socket that is the daemon's.
    Heard(Heard),
}

/// What a daemon says.
#[derive(Clone, Debug, PartialEq)]
pub enum ToProgram {
    /// (+fd) The lease stands; the descriptor is the statistics memory.
    Welcome(Welcome),
    /// (+fd) A flow's socket.
    Grant(Grant),
    /// A token or a ticket is not honoured.
    Denied(Denied),
    /// A flow is over.
    Gone(Gone),
    /// A flow's peer is elsewhere.
    Moved(Moved),
}

/// A packet that says nothing this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPacket;

impl std::fmt::Display for BadPacket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the packet on the hand-over socket is malformed or of another version")
    }
}

impl std::error::Error for BadPacket {}

fn pack(kind: u8, message: &impl Message) -> Vec<u8> {
    let mut packet = Vec::with_capacity(1 + message.encoded_len());
    packet.push(kind);
    message.encode(&mut packet).expect("a Vec grows as needed");
    packet
}

fn unpack<M: Message + Default>(body: &[u8]) -> Result<M, BadPacket> {
    M::decode(body).map_err(|_| BadPacket)
}

impl ToDaemon {
    /// The packet for this message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(m) => pack(1, m),
            Self::Redeem(m) => pack(2, m),
            Self::Release(m) => pack(3, m),
            Self::Suspect(m) => pack(4, m),
            Self::Adopt(m) => pack(5, m),
            Self::Heard(m) => pack(6, m),
        }
    }

    /// The message in a packet; total over all bytes.
    pub fn decode(packet: &[u8]) -> Result<Self, BadPacket> {
        let (kind, body) = packet.split_first().ok_or(BadPacket)?;
        Ok(match kind {
            1 => Self::Hello(unpack(body)?),
            2 => Self::Redeem(unpack(body)?),
            3 => Self::Release(unpack(body)?),
            4 => Self::Suspect(unpack(body)?),
            5 => Self::Adopt(unpack(body)?),
            6 => Self::Heard(unpack(body)?),
            _ => return Err(BadPacket),
        })
    }
}

impl ToProgram {
    /// The packet for this message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome(m) => pack(65, m),
            Self::Grant(m) => pack(66, m),
            Self::Denied(m) => pack(67, m),
            Self::Gone(m) => pack(68, m),
            Self::Moved(m) => pack(69, m),
        }
    }

    /// The message in a packet; total over all bytes.
    pub fn decode(packet: &[u8]) -> Result<Self, BadPacket> {
        let (kind, body) = packet.split_first().ok_or(BadPacket)?;
        Ok(match kind {
            65 => Self::Welcome(unpack(body)?),
            66 => Self::Grant(unpack(body)?),
            67 => Self::Denied(unpack(body)?),
            68 => Self::Gone(unpack(body)?),
            69 => Self::Moved(unpack(body)?),
            _ => return Err(BadPacket),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{EndReason, Failure, FailureKind};
    use proptest::prelude::*;

    #[test]
    fn every_message_survives_its_packet() {
        let token = vec![7; 16];
        for message in [
            ToDaemon::Hello(Hello { version: 1 }),
            ToDaemon::Redeem(Redeem { token: token.clone() }),
            ToDaemon::Release(Release { flow_id: 1 << 40 }),
            ToDaemon::Suspect(Suspect { flow_id: 3 }),
            ToDaemon::Adopt(Adopt { ticket: vec![1; 200], counters: None }),
            ToDaemon::Heard(Heard { flow_id: 3, from: "[fd00::1]:3360".to_owned(), datagram: vec![0; 1200] }),
        ] {
            assert_eq!(ToDaemon::decode(&message.encode()), Ok(message));
        }
        let failure = Failure::new(FailureKind::NotPermitted, "not yours");
        for message in [
            ToProgram::Welcome(Welcome { version: 1, slots: 16_384 }),
            ToProgram::Grant(Grant {
                token: token.clone(),
                flow_id: 9,
                slot: 4,
                sdu_limit: 1472,
                ticket: vec![2; 99],
                wire_id: 5,
                answers_at: 6,
                binding: vec![3; 32],
                fixed: true,
                movable: true,
            }),
            ToProgram::Denied(Denied { token, failure: Some(failure) }),
            ToProgram::Gone(Gone { flow_id: 9, reason: EndReason::PeerDied.into() }),
            ToProgram::Moved(Moved { flow_id: 9, peer: "10.0.0.1:4000".to_owned(), ticket: vec![2; 99] }),
        ] {
            assert_eq!(ToProgram::decode(&message.encode()), Ok(message));
        }
    }

    proptest! {
        #[test]
        fn decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ToDaemon::decode(&bytes);
            let _ = ToProgram::decode(&bytes);
        }
    }
}

//! The form that all these datagrams have; numbers in network order:
//!
//! ```text
//!  0  1  0: no name begins so
//!  1  4  "Flow"
//!  5  1  version, 1
//!  6  1  kind, 32 and above
//!  7  1  0
//!  8  8  the session
//! 16  8  host id of the member that speaks; the server: 0
//! 24  8  the sender's id of the flow, or a member's count of what it asked
//! 32  8  the receiver's id of the flow, or that count again; 0 in what the server is asked
//! 40  2  length of the fields
//! 42  n  fields
//!    16  seal: HMAC-SHA-256 over all bytes before it, cut
//!        zeros up to 1,200 bytes, in what the server is asked
//! ```

use super::field::Fields;
use super::key::SEAL;
use super::{AttemptKey, DATAGRAM, FIRST_KIND, Malformed, Said, SessionId, SessionKey};
use crate::shim::{MAGIC, VERSION};
use crate::{HostId, WireId};

const LENGTH: usize = 42;

/// Who speaks to whom about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The session.
    pub session: SessionId,
    /// The member that speaks; 0: the server.
    pub member: HostId,
    /// The sender's id of the flow; in [`Said::Join`] and [`Said::Leave`] a count that only grows.
    pub sender: WireId,
    /// The receiver's id of the flow; in the server's answer to these that count. 0 in what the server is asked.
    pub receiver: WireId,
}

/// A datagram whose header makes sense.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Who speaks to whom. Not checked yet: see [`Envelope::of`] and [`Envelope::between`].
    pub head: Head,
    kind: u8,
    fields: &'a [u8],
    /// All before the seal.
    sealed: &'a [u8],
    seal: &'a [u8; SEAL],
}

impl Head {
    /// A datagram between a member and the server.
    ///
    /// # Panics
    /// Where what is said breaks its documented bounds.
    pub fn encode(&self, key: &SessionKey, said: &Said) -> Vec<u8> {
        self.write(said, |bytes| key.seal(bytes))
    }

    /// A datagram between two members, of one attempt.
    ///
    /// # Panics
    /// Where what is said breaks its documented bounds.
    pub fn encode_between(&self, key: &AttemptKey, said: &Said) -> Vec<u8> {
        self.write(said, |bytes| key.seal(bytes))
    }

    /// A datagram that nobody can seal: [`Said::Cookie`], [`Said::Unknown`], [`Said::NatProbe`], [`Said::NatReach`],
    /// [`Said::NatSeen`].
    ///
    /// # Panics
    /// Where what is said breaks its documented bounds.
    pub fn encode_bare(&self, said: &Said) -> Vec<u8> {
        self.write(said, |_| [0; SEAL])
    }

    fn write(&self, said: &Said, seal: impl FnOnce(&[u8]) -> [u8; SEAL]) -> Vec<u8> {
        let mut out = vec![0];
        out.extend(MAGIC);
        out.extend([VERSION, said.kind(), 0]);
        for number in [self.session.0, self.member.0, self.sender.0, self.receiver.0] {
            out.extend(number.to_be_bytes());
        }
        out.extend([0; 2]);
        said.write(&mut out);
        let length = u16::try_from(out.len() - LENGTH).expect("fields are bounded far below 64 KiB");
        out[40..LENGTH].copy_from_slice(&length.to_be_bytes());
        let seal = seal(&out);
        out.extend(seal);
        assert!(out.len() <= DATAGRAM, "what is said within its bounds fits");
        if said.is_asked() {
            out.resize(DATAGRAM, 0);
        }
        out
    }
}

impl<'a> Envelope<'a> {
    /// Reads a datagram's header. Nothing is known of its truth.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Err(Malformed::Empty);
        }
        if bytes.len() > DATAGRAM {
            return Err(Malformed::TooLong);
        }
        if bytes[0] != 0 || !bytes[1..].starts_with(&MAGIC) || bytes.get(5) != Some(&VERSION) {
            return Err(Malformed::NotControl);
        }
        let fixed: &[u8; LENGTH] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let number = |at: usize| u64::from_be_bytes(fixed[at..at + 8].try_into().expect("8 bytes"));
        let length = usize::from(u16::from_be_bytes([fixed[40], fixed[41]]));
        if fixed[6] < FIRST_KIND {
            return Err(Malformed::Header);
        }
        let (sealed, rest) = bytes.split_at_checked(LENGTH + length).ok_or(Malformed::Truncated)?;
        let seal = rest.first_chunk().ok_or(Malformed::Truncated)?;
        let head = Head {
            session: SessionId(number(8)),
            member: HostId(number(16)),
            sender: WireId(number(24)),
            receiver: WireId(number(32)),
        };
        Ok(Self { head, kind: fixed[6], fields: &sealed[LENGTH..], sealed, seal })
    }

    /// What it says, if it was sealed with the session's key.
    pub fn of(&self, key: &SessionKey) -> Result<Said, Malformed> {
        if !key.verify(self.sealed, self.seal) {
            return Err(Malformed::Seal);
        }
        self.unsealed()
    }

    /// What it says, if it was sealed with the attempt's key.
    pub fn between(&self, key: &AttemptKey) -> Result<Said, Malformed> {
        if !key.verify(self.sealed, self.seal) {
            return Err(Malformed::Seal);
        }
        self.unsealed()
    }

    /// What it says, whoever sealed it: for what nobody can seal, for captures, and for the cookie, which is looked at before
    /// anything is spent on a seal.
    pub fn unsealed(&self) -> Result<Said, Malformed> {
        Said::read(self.kind, &Fields::read(self.fields)?)
    }

    /// The cookie it brings; empty without one.
    pub fn cookie(&self) -> &'a [u8] {
        let fields = Fields::read(self.fields).ok();
        fields.and_then(|fields| fields.maybe(super::field::COOKIE)).unwrap_or_default()
    }

    /// Whether it is of a kind that asks the server something: its sender padded it to [`DATAGRAM`].
    pub fn is_asked(&self) -> bool {
        Said::ASKED.contains(&self.kind)
    }

    /// Whether it is of a kind that is only believed sealed.
    pub fn is_sealed(&self) -> bool {
        !Said::BARE.contains(&self.kind)
    }
}

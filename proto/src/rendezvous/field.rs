//! Fields after the header: `type` (1 byte), `length` (2 bytes, network order), value. Types below 64 stand at most once,
//! those from 64 to 127 as often as they fit; types that are not known are skipped below 128 and refused above.

use super::Malformed;

pub(super) const COOKIE: u8 = 1;
pub(super) const BOOT: u8 = 2;
pub(super) const LOCALS: u8 = 3;
pub(super) const SEEN: u8 = 4;
pub(super) const NAMES: u8 = 5;
pub(super) const ROUND_TRIP: u8 = 6;
pub(super) const NAME: u8 = 7;
pub(super) const ROUND: u8 = 8;
pub(super) const ATTEMPT: u8 = 9;
pub(super) const NONCE: u8 = 10;
pub(super) const PUBLIC: u8 = 11;
pub(super) const PEER: u8 = 12;
pub(super) const SHIM_PUBLIC: u8 = 13;
pub(super) const SHIM_LOCALS: u8 = 14;
pub(super) const START: u8 = 15;
pub(super) const REFUSAL: u8 = 16;
pub(super) const CHALLENGE: u8 = 17;
pub(super) const ECHO: u8 = 18;
pub(super) const SEEN_AT: u8 = 19;
pub(super) const REFRESH: u8 = 20;
pub(super) const LATEST: u8 = 21;
pub(super) const QUOTA: u8 = 22;
pub(super) const PAYLOAD: u8 = 23;
pub(super) const ALTERNATE: u8 = 24;
pub(super) const RELAY: u8 = 25;
pub(super) const RESET: u8 = 26;
pub(super) const NAT: u8 = 27;
pub(super) const PORT: u8 = 28;
pub(super) const MAPPED: u8 = 29;
pub(super) const STEP: u8 = 30;
pub(super) const SEARCH: u8 = 31;
pub(super) const ADRIFT: u8 = 40;

pub(super) const ADD_NAME: u8 = 64;
pub(super) const REMOVE_NAME: u8 = 65;
pub(super) const MEMBER: u8 = 66;
pub(super) const MEMBER_LEFT: u8 = 67;
pub(super) const MEMBER_NAME: u8 = 68;
pub(super) const MEMBER_NAME_GONE: u8 = 69;

/// Who does not know it would meet with a socket that is not the flow's: refused there.
pub(super) const MOVES: u8 = 128;

const MANY: u8 = 64;
const CRITICAL: u8 = 128;

pub(super) fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    let length = u16::try_from(value.len()).expect("values are bounded by their callers");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

/// The fields of one datagram, in their order.
pub(super) struct Fields<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Fields<'a> {
    pub(super) fn read(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut all, mut seen) = (Vec::<(u8, &[u8])>::new(), 0u64);
        while let Some((head, rest)) = bytes.split_first_chunk::<3>() {
            let (kind, length) = (head[0], usize::from(u16::from_be_bytes([head[1], head[2]])));
            let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
            bytes = rest;
            let again = || all.iter().any(|(known, _)| *known == kind);
            if kind >= CRITICAL && (kind != MOVES || again()) || kind < MANY && seen & (1 << kind) != 0 {
                return Err(Malformed::Field);
            }
            if kind < MANY {
                seen |= 1 << kind;
            }
            all.push((kind, value));
        }
        if bytes.is_empty() { Ok(Self(all)) } else { Err(Malformed::Truncated) }
    }

    /// The value of a field that may be missing.
    pub(super) fn maybe(&self, kind: u8) -> Option<&'a [u8]> {
        self.0.iter().find(|(of, _)| *of == kind).map(|(_, value)| *value)
    }

    /// A field that must be there, as `read` understands it.
    pub(super) fn must<T>(&self, kind: u8, read: impl FnOnce(&'a [u8]) -> Option<T>) -> Result<T, Malformed> {
        self.maybe(kind).and_then(read).ok_or(Malformed::Field)
    }

    /// A field that has a value of its own where it is missing.
    pub(super) fn or<T>(&self, kind: u8, missing: T, read: impl FnOnce(&'a [u8]) -> Option<T>) -> Result<T, Malformed> {
        match self.maybe(kind) {
            None => Ok(missing),
            Some(value) => read(value).ok_or(Malformed::Field),
        }
    }

    /// The fields that may stand often, in their order.
    pub(super) fn many(&self) -> impl Iterator<Item = (u8, &'a [u8])> + '_ {
        self.0.iter().copied().filter(|(kind, _)| *kind >= MANY)
    }
}

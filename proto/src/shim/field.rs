//! Fields after a header: `type` (1 byte), `length` (2 bytes, network order), value. Each type stands at most
//! once. A type with its top bit set must be understood; others are skipped when unknown.

use super::Malformed;

pub(super) const SOURCE: u8 = 1;
pub(super) const QOS: u8 = 2;
pub(super) const DEADLINE: u8 = 3;
pub(super) const DATA: u8 = 4;
pub(super) const COOKIE: u8 = 5;
pub(super) const VERDICT: u8 = 6;
pub(super) const REASON: u8 = 7;
pub(super) const SERVER_PORT: u8 = 8;
pub(super) const LISTEN_PORT: u8 = 9;
pub(super) const DIRECT: u8 = 10;

const CRITICAL: u8 = 0x80;

pub(super) fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    let length = u16::try_from(value.len()).expect("values are bounded by their callers");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

/// Calls `take` for every known field; `take` says whether the value is well formed.
pub(super) fn each<'a>(mut bytes: &'a [u8], mut take: impl FnMut(u8, &'a [u8]) -> bool) -> Result<(), Malformed> {
    let mut seen = 0u16;
    while let Some((head, rest)) = bytes.split_first_chunk::<3>() {
        let (kind, length) = (head[0], usize::from(u16::from_be_bytes([head[1], head[2]])));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        bytes = rest;
        if (SOURCE..=DIRECT).contains(&kind) {
            let bit = 1 << kind;
            if seen & bit != 0 || !take(kind, value) {
                return Err(Malformed::Field);
            }
            seen |= bit;
        } else if kind & CRITICAL != 0 {
            return Err(Malformed::Field);
        }
    }
    if bytes.is_empty() { Ok(()) } else { Err(Malformed::Truncated) }
}

/// Text of at most `longest` bytes.
pub(super) fn text(value: &[u8], longest: usize) -> Option<&str> {
    (value.len() <= longest).then_some(value).and_then(|value| std::str::from_utf8(value).ok())
}

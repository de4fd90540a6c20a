//! What the server side tells the client side: who may send, and where to. And how both speak of it, byte for byte as in
//! docs/gameproxy.md.
//!
//! ```text
//! offer      1 (version) · entries (2) · entry… · redirects (2) · redirect…
//! entry      verdict (1: 0 deny, 1 allow) · ip · mask · first port (2) · last port (2)
//! redirect   port (2) · on (1: how many) · ip… · from (1: how many) · ip…
//! ip, mask   4 or 6 (1) · 4 or 16 bytes
//!
//! have       1 · offer's number (8) · time (8) · round trip in µs (4) · ips (1: how many) · ip…   client side → server side
//! is         2 · offer's number (8) · its length (4) · time (8) · the ip that you are seen at (0: not known, or an ip)  ←
//! part       3 · offer's number (8) · first byte (4) · bytes                                        ←
//! want       4 · offer's number (8) · first byte (4) · parts (1)                                    →
//! ```
//! Numbers are in network order. An offer's number is the hash of its bytes: a server side that was started again with the
//! same rules has nothing to tell.

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use siphasher::sip::SipHasher24;
use thiserror::Error;

use super::rule::{Access, Host, Net, Verdict};

/// Longest offer, bytes.
pub const LONGEST: usize = 512 * 1024;
/// Bytes of an offer in one part; fits every path of 1,280 bytes.
pub const PART: usize = 1024;
/// Parts that are asked for at once.
pub const AT_ONCE: u8 = 16;
/// Most addresses that a machine tells of itself.
pub const MOST_OWN: usize = 32;

const VERSION: u8 = 1;
const HAVE: u8 = 1;
const IS: u8 = 2;
const PART_KIND: u8 = 3;
const WANT: u8 = 4;

/// Who may send to a client side and where to. No names are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Who may send; all hosts are addresses.
    pub access: Vec<Access>,
    /// Where to.
    pub redirects: Vec<Offered>,
}

/// A redirect, as far as client sides need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The port that players send to.
    pub port: u16,
    /// The machine whose it is, by any of these; none: that which has one of `from`.
    pub on: Vec<IpAddr>,
    /// Where players send to, one of these.
    pub from: Vec<IpAddr>,
}

/// What both sides say about offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// The client side has this offer, 0 none, and these addresses. To be answered with [`Self::Is`].
    Have {
        /// The offer's number.
        number: u64,
        /// Comes back with the answer.
        time: u64,
        /// The last round trip to the server side, µs; 0: not known.
        round_trip: u32,
        /// The machine's own addresses.
        own: Vec<IpAddr>,
    },
    /// The offer is this; and the time that was asked with, 0: nobody asked.
    Is {
        /// The offer's number.
        number: u64,
        /// The offer's length, bytes.
        length: u32,
        /// Of the question.
        time: u64,
        /// The client side's address.
        seen: Option<IpAddr>,
    },
    /// Bytes of an offer.
    Part {
        /// The offer's number.
        number: u64,
        /// Where they begin.
        at: u32,
        /// They.
        bytes: &'a [u8],
    },
    /// Bytes of an offer are missing.
    Want {
        /// The offer's number.
        number: u64,
        /// Where they begin.
        at: u32,
        /// So many parts.
        parts: u8,
    },
}

/// Why bytes are no offer, or nothing about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Shorter than it says.
    #[error("it is cut off")]
    Short,
    /// Longer than it says.
    #[error("it goes on after its end")]
    Long,
    /// Of a version that is not known here.
    #[error("it is of version {0}, and this gameproxy knows version 1; the older of the two sides is to be renewed")]
    Version(u8),
    /// A number that stands for nothing.
    #[error("{0} stands for nothing at this place")]
    Word(u8),
    /// Nobody's offer is so long.
    #[error("{0} bytes are too many")]
    Length(u32),
}

impl Offer {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let entries = count(self.access.len());
        out.extend(entries.to_be_bytes());
        for entry in self.access.iter().take(entries.into()) {
            let Host::Address(host) = entry.from.host else { continue };
            out.push(u8::from(entry.verdict == Verdict::Allow));
            put_ip(&mut out, host);
            put_ip(&mut out, entry.from.mask.unwrap_or_else(|| ones(host)));
            out.extend(entry.ports.0.to_be_bytes());
            out.extend(entry.ports.1.to_be_bytes());
        }
        let redirects = count(self.redirects.len());
        out.extend(redirects.to_be_bytes());
        for redirect in self.redirects.iter().take(redirects.into()) {
            out.extend(redirect.port.to_be_bytes());
            put_ips(&mut out, &redirect.on);
            put_ips(&mut out, &redirect.from);
        }
        out
    }

    /// Back from [`Self::bytes`].
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        match byte(&mut rest)? {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        let mut offer = Self::default();
        for _ in 0..u16::from_be_bytes(take(&mut rest)?) {
            let verdict = match byte(&mut rest)? {
                0 => Verdict::Deny,
                1 => Verdict::Allow,
                other => return Err(Malformed::Word(other)),
            };
            let from = Net { host: Host::Address(ip(&mut rest)?), mask: Some(ip(&mut rest)?) };
            let ports = (u16::from_be_bytes(take(&mut rest)?), u16::from_be_bytes(take(&mut rest)?));
            offer.access.push(Access { verdict, from, ports });
        }
        for _ in 0..u16::from_be_bytes(take(&mut rest)?) {
            let port = u16::from_be_bytes(take(&mut rest)?);
            offer.redirects.push(Offered { port, on: ips(&mut rest)?, from: ips(&mut rest)? });
        }
        if rest.is_empty() { Ok(offer) } else { Err(Malformed::Long) }
    }
}

/// An offer's number; never 0.
pub fn number(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x6761_6d65, 0x7072_6f78);
    hasher.write(bytes);
    hasher.finish().max(1)
}

impl<'a> About<'a> {
    /// Appends it to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Have { number, time, round_trip, own } => {
                out.push(HAVE);
                out.extend(number.to_be_bytes());
                out.extend(time.to_be_bytes());
                out.extend(round_trip.to_be_bytes());
                put_ips(out, &own[..own.len().min(MOST_OWN)]);
            }
            Self::Is { number, length, time, seen } => {
                out.push(IS);
                out.extend(number.to_be_bytes());
                out.extend(length.to_be_bytes());
                out.extend(time.to_be_bytes());
                match seen {
                    Some(seen) => put_ip(out, *seen),
                    None => out.push(0),
                }
            }
            Self::Part { number, at, bytes } => {
                out.push(PART_KIND);
                out.extend(number.to_be_bytes());
                out.extend(at.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Want { number, at, parts } => {
                out.push(WANT);
                out.extend(number.to_be_bytes());
                out.extend(at.to_be_bytes());
                out.push(*parts);
            }
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let kind = byte(&mut rest)?;
        if !(HAVE..=WANT).contains(&kind) {
            return Err(Malformed::Word(kind));
        }
        let number = u64::from_be_bytes(take(&mut rest)?);
        let about = match kind {
            HAVE => {
                let (time, round_trip) = (u64::from_be_bytes(take(&mut rest)?), u32::from_be_bytes(take(&mut rest)?));
                let own = ips(&mut rest)?;
                if own.len() > MOST_OWN {
                    return Err(Malformed::Word(own.len() as u8));
                }
                Self::Have { number, time, round_trip, own }
            }
            IS => {
                let (length, time) = (u32::from_be_bytes(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?));
                let seen = match rest {
                    [0, ..] => {
                        rest = &rest[1..];
                        None
                    }
                    _ => Some(ip(&mut rest)?),
                };
                if length as usize > LONGEST {
                    return Err(Malformed::Length(length));
                }
                Self::Is { number, length, time, seen }
            }
            PART_KIND => {
                let at = u32::from_be_bytes(take(&mut rest)?);
                return Ok(Self::Part { number, at, bytes: rest });
            }
            _ => Self::Want { number, at: u32::from_be_bytes(take(&mut rest)?), parts: byte(&mut rest)? },
        };
        if rest.is_empty() { Ok(about) } else { Err(Malformed::Long) }
    }
}

/// The mask of a single address.
fn ones(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(_) => Ipv4Addr::BROADCAST.into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(u128::MAX).into(),
    }
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(6);
            out.extend(v6.octets());
        }
    }
}

fn put_ips(out: &mut Vec<u8>, ips: &[IpAddr]) {
    let count = u8::try_from(ips.len()).unwrap_or(u8::MAX);
    out.push(count);
    ips.iter().take(count.into()).for_each(|ip| put_ip(out, *ip));
}

fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, rest) = from.split_first_chunk::<N>().ok_or(Malformed::Short)?;
    *from = rest;
    Ok(*taken)
}

fn byte(from: &mut &[u8]) -> Result<u8, Malformed> {
    take::<1>(from).map(|[byte]| byte)
}

fn ip(from: &mut &[u8]) -> Result<IpAddr, Malformed> {
    match byte(from)? {
        4 => take::<4>(from).map(|octets| Ipv4Addr::from(octets).into()),
        6 => take::<16>(from).map(|octets| Ipv6Addr::from(octets).into()),
        other => Err(Malformed::Word(other)),
    }
}

fn ips(from: &mut &[u8]) -> Result<Vec<IpAddr>, Malformed> {
    let count = byte(from)?;
    (0..count).map(|_| ip(from)).collect()
}

#[cfg(test)]
mod tests;

//! What two port forwarders say in each message of a message flow that carries UDP; in words in docs/portfwd.md.
//!
//! One flow carries the datagrams of many clients. The side that allocated the flow gives each client a number of 32 bits; a
//! number that comes again is the same client, as far as the other side still knows it. Numbers are in network order.
//!
//! ```text
//!  0  1  version, 1 (4 bits); kind (4 bits)
//!  1  4  number of the client
//!  5     by kind:
//!        1 data     a datagram's bytes, perhaps none
//!        2 first    the client's address: length 0, 4 or 16 (1), address, port (2, not of length 0); then a datagram's bytes
//!        3 refused  a verdict (1), as in the answer to a stream: the target did not take a datagram
//! ```
//!
//! The allocating side says *first* until it has been answered: any message may be lost.

use std::net::{IpAddr, SocketAddr};

use super::Verdict;

/// The version said here.
pub const VERSION: u8 = 1;
/// Bytes that go before those of a datagram.
pub const HEAD: usize = 5;
/// The most that go before them: with an address of IPv6.
pub const LONGEST_HEAD: usize = HEAD + 1 + 16 + 2;

const DATA: u8 = VERSION << 4 | 1;
const FIRST: u8 = VERSION << 4 | 2;
const REFUSED: u8 = VERSION << 4 | 3;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whose.
    pub client: u32,
    /// What.
    pub said: Said<'a>,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A datagram.
    Data(&'a [u8]),
    /// A datagram of a client that the other side may not know yet, and its address, if that is to be told.
    First(Option<SocketAddr>, &'a [u8]),
    /// The target refused a datagram.
    Refused(Verdict),
}

impl<'a> Message<'a> {
    /// Reads a message; `None` where it is none, or of another version.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (&[kind, a, b, c, d], rest) = bytes.split_first_chunk::<HEAD>()?;
        let said = match kind {
            DATA => Said::Data(rest),
            FIRST => first(rest)?,
            REFUSED => match rest {
                [code] => Said::Refused(Verdict::from_code(*code).filter(|verdict| *verdict != Verdict::Connected)?),
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { client: u32::from_be_bytes([a, b, c, d]), said })
    }

    /// Writes it behind what `out` holds.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self.said {
            Said::Data(_) => DATA,
            Said::First(..) => FIRST,
            Said::Refused(_) => REFUSED,
        };
        out.push(kind);
        out.extend_from_slice(&self.client.to_be_bytes());
        match self.said {
            Said::Data(datagram) => out.extend_from_slice(datagram),
            Said::First(address, datagram) => {
                put_address(out, address);
                out.extend_from_slice(datagram);
            }
            Said::Refused(verdict) => out.push(verdict as u8),
        }
    }
}

fn first(bytes: &[u8]) -> Option<Said<'_>> {
    let (length, rest) = bytes.split_first()?;
    let (ip, rest): (IpAddr, _) = match length {
        0 => return Some(Said::First(None, rest)),
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        16 => rest.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip).to_canonical(), rest))?,
        _ => return None,
    };
    let (port, datagram) = rest.split_first_chunk::<2>()?;
    Some(Said::First(Some(SocketAddr::new(ip, u16::from_be_bytes(*port))), datagram))
}

fn put_address(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    let Some(address) = address else { return out.push(0) };
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(16);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(message: Message<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    /// The bytes of this version, kept for ever.
    #[test]
    fn messages_are_these_bytes() {
        let v4 = Some("192.0.2.1:5353".parse().unwrap());
        let v6 = Some("[2001:db8::1]:53".parse().unwrap());
        let table: [(Message<'_>, &[u8]); 5] = [
            (Message { client: 1, said: Said::Data(b"hi") }, b"\x11\0\0\0\x01hi"),
            (Message { client: u32::MAX, said: Said::First(None, b"") }, b"\x12\xff\xff\xff\xff\0"),
            (Message { client: 2, said: Said::First(v4, b"hi") }, b"\x12\0\0\0\x02\x04\xc0\0\x02\x01\x14\xe9hi"),
            (
                Message { client: 3, said: Said::First(v6, b"") },
                b"\x12\0\0\0\x03\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x35",
            ),
            (Message { client: 4, said: Said::Refused(Verdict::Refused) }, b"\x13\0\0\0\x04\x02"),
        ];
        for (message, expected) in table {
            assert_eq!(bytes(message), expected, "{message:?}");
            assert_eq!(Message::decode(expected), Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_none() {
        let table: [&[u8]; 10] = [
            b"",
            b"\x11\0\0\0",
            b"\x21\0\0\0\x01",
            b"\x14\0\0\0\x01",
            b"\x12\0\0\0\x01",
            b"\x12\0\0\0\x01\x05abcde\0\0",
            b"\x12\0\0\0\x01\x04\xc0\0\x02\x01\x14",
            b"\x13\0\0\0\x01",
            b"\x13\0\0\0\x01\x01",
            b"\x13\0\0\0\x01\x02\x02",
        ];
        for bytes in table {
            assert_eq!(Message::decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(client in any::<u32>(), six in any::<Option<u128>>(), four in any::<Option<u32>>(), port in any::<u16>(), data in prop::collection::vec(any::<u8>(), 0..50)) {
            let ip = six.map(|bits| IpAddr::from(bits.to_be_bytes()).to_canonical()).or(four.map(|bits| IpAddr::from(bits.to_be_bytes())));
            let address = ip.map(|ip| SocketAddr::new(ip, port));
            for said in [Said::Data(&data), Said::First(address, &data)] {
                let message = Message { client, said };
                let bytes = bytes(message);
                prop_assert!(bytes.len() <= data.len() + LONGEST_HEAD);
                prop_assert_eq!(Message::decode(&bytes), Some(message));
            }
        }

        #[test]
        fn no_bytes_make_it_fall_and_what_is_heard_can_be_said(data in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(message) = Message::decode(&data) {
                let again = bytes(message);
                prop_assert_eq!(Message::decode(&again), Some(message));
            }
        }
    }
}

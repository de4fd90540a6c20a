//! ro-ro-tcp's protocols on a TCP track: bytes to values and back.
//!
//! Establishment: a group number, 32 bits; 0 asks for one. Transmission: datagrams of a serial number (16 bits, from 1 on,
//! modulo 65,536), a size, and so many bytes. All in network order. The seed's text says that the size has 16 bits, its
//! program sends 32.

use std::num::NonZeroU32;
use std::str::FromStr;

use super::head::Head;

/// Bytes of a group number.
pub const NUMBER: usize = 4;

/// How long the size of a datagram is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// 16 bits, as the seed's text says.
    #[default]
    Short,
    /// 32 bits, as its program sends.
    Long,
}

impl FromStr for Framing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "u16" => Ok(Self::Short),
            "u32" => Ok(Self::Long),
            _ => Err(format!(
                "{text:?} is no framing; use u16 (as ro-ro-tcp's text has it) or u32 (as its program does)"
            )),
        }
    }
}

/// The header of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Modulo 65,536.
    pub serial: u16,
    /// Bytes that follow.
    pub size: u32,
}

impl Framing {
    /// Bytes of a header.
    pub fn header(self) -> usize {
        match self {
            Self::Short => 4,
            Self::Long => 6,
        }
    }

    /// The longest datagram, bytes.
    pub fn longest(self) -> u32 {
        match self {
            Self::Short => u32::from(u16::MAX),
            Self::Long => u32::MAX,
        }
    }

    /// A header as bytes; `None` for a size that does not fit.
    pub fn encode(self, header: Header) -> Option<Head> {
        let serial = header.serial.to_be_bytes();
        Some(match self {
            Self::Short => Head::of(&[&serial, &u16::try_from(header.size).ok()?.to_be_bytes()]),
            Self::Long => Head::of(&[&serial, &header.size.to_be_bytes()]),
        })
    }

    /// The header that `bytes` begin with; `None` while it is incomplete.
    pub fn decode(self, bytes: &[u8]) -> Option<Header> {
        let (serial, rest) = bytes.split_first_chunk()?;
        let size = match self {
            Self::Short => u32::from(u16::from_be_bytes(*rest.first_chunk()?)),
            Self::Long => u32::from_be_bytes(*rest.first_chunk()?),
        };
        Some(Header { serial: u16::from_be_bytes(*serial), size })
    }
}

/// What a track begins with, said by the proxy: a new group, or one that is there.
pub fn number(group: Option<NonZeroU32>) -> [u8; NUMBER] {
    group.map_or(0, NonZeroU32::get).to_be_bytes()
}

/// And read.
pub fn read_number(bytes: [u8; NUMBER]) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_of_the_seed() {
        let header = Header { serial: 1, size: 0x1234 };
        assert_eq!(Framing::Short.encode(header), Some(Head::of(&[&[0, 1, 0x12, 0x34]])));
        assert_eq!(Framing::Long.encode(header), Some(Head::of(&[&[0, 1, 0, 0, 0x12, 0x34]])));
        assert_eq!(Framing::Short.encode(Header { serial: 1, size: 65_536 }), None);
        assert_eq!(number(None), [0; 4]);
        assert_eq!(number(NonZeroU32::new(0x0102_0304)), [1, 2, 3, 4]);
        assert_eq!(read_number([0; 4]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(serial: u16, size: u16, more: Vec<u8>) {
            for framing in [Framing::Short, Framing::Long] {
                let header = Header { serial, size: size.into() };
                let mut bytes = framing.encode(header).unwrap().to_vec();
                prop_assert_eq!(bytes.len(), framing.header());
                for cut in 0..bytes.len() {
                    prop_assert_eq!(framing.decode(&bytes[..cut]), None);
                }
                bytes.extend(&more);
                prop_assert_eq!(framing.decode(&bytes), Some(header));
            }
        }
    }
}

//! An SDU of oping: 4 bytes of magic, the sequence number, the sender's clock; the rest is filling.

use std::time::Duration;

/// Shortest SDU: the header.
pub const MIN: usize = 16;

/// Longest SDU: what a UDP datagram over IPv4 carries.
pub const MAX: usize = 65_507;

const MAGIC: [u8; 4] = *b"oPn1";

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Lowest 32 bits of the sequence number.
    pub seq: u32,
    /// The sender's clock, since it started.
    pub sent_at: Duration,
}

/// Writes the header into the first [`MIN`] bytes of `sdu`, which must be there.
pub fn write(sdu: &mut [u8], header: Header) {
    let nanos = u64::try_from(header.sent_at.as_nanos()).unwrap_or(u64::MAX);
    sdu[..4].copy_from_slice(&MAGIC);
    sdu[4..8].copy_from_slice(&header.seq.to_be_bytes());
    sdu[8..16].copy_from_slice(&nanos.to_be_bytes());
}

/// The header of an SDU; `None` if it is none of ours.
pub fn read(sdu: &[u8]) -> Option<Header> {
    let (magic, rest) = sdu.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<4>()?;
    let (nanos, _) = rest.split_first_chunk::<8>()?;
    let header = Header { seq: u32::from_be_bytes(*seq), sent_at: Duration::from_nanos(u64::from_be_bytes(*nanos)) };
    (*magic == MAGIC).then_some(header)
}

/// An SDU of `size` bytes with a filling that shows where bytes were lost or moved.
pub fn blank(size: usize) -> Vec<u8> {
    (0..size.max(MIN)).map(|i| i as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back() {
        let mut sdu = blank(20);
        let header = Header { seq: 7, sent_at: Duration::from_nanos(123_456_789_012) };
        write(&mut sdu, header);
        assert_eq!(read(&sdu), Some(header));
        assert_eq!(&sdu[16..], &[16, 17, 18, 19]);
        assert_eq!(read(&sdu[..15]), None);
        sdu[0] ^= 1;
        assert_eq!(read(&sdu), None);
        assert_eq!(read(&[]), None);
    }
}

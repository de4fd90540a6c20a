//! A pcapng file, written.

use std::borrow::Cow;

use pcap_parser::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, InterfaceStatisticsBlock, Linktype, OptionCode, PcapNGOption,
    SectionHeaderBlock, ToVec,
};

use crate::udp::Link;

/// Option of a packet: its flags.
pub(crate) const FLAGS: OptionCode = OptionCode(2);
/// Nanoseconds, as `if_tsresol` says it.
const NANOSECONDS: u8 = 9;
/// Of a section whose length is not known beforehand.
const UNKNOWN: i64 = -1;

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the host where it was captured.
    Inbound,
    /// From there.
    Outbound,
}

impl Direction {
    fn flags(self) -> u32 {
        match self {
            Self::Inbound => 1,
            Self::Outbound => 2,
        }
    }

    pub(crate) fn from_flags(flags: u32) -> Option<Self> {
        match flags & 3 {
            1 => Some(Self::Inbound),
            2 => Some(Self::Outbound),
            _ => None,
        }
    }
}

/// Where packets were captured.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// Its name: `eth0`.
    pub name: &'a str,
    /// How its packets begin.
    pub link: Link,
    /// Longer packets are cut to this, bytes.
    pub snap: u32,
    /// What is captured there, in words.
    pub filter: &'a str,
}

/// A pcapng file of one section, block after block, little-endian, with times in nanoseconds. Gives bytes to write.
#[derive(Debug, Default)]
pub struct Pcapng {
    interfaces: u32,
}

impl Pcapng {
    /// The beginning: who writes, on what system, and comments.
    pub fn begin(application: &str, system: &str, comments: &[String]) -> (Self, Vec<u8>) {
        let mut options: Vec<_> = comments.iter().map(|comment| text(OptionCode::Comment, comment)).collect();
        options.extend([text(OptionCode::ShbOs, system), text(OptionCode::ShbUserAppl, application)]);
        let mut block = SectionHeaderBlock {
            block_type: 0,
            block_len1: 0,
            bom: 0,
            major_version: 1,
            minor_version: 0,
            section_len: UNKNOWN,
            options,
            block_len2: 0,
        };
        (Self::default(), bytes(&mut block))
    }

    /// One more interface; its number is what [`packet`](Self::packet) takes.
    pub fn interface(&mut self, interface: &Interface<'_>) -> (u32, Vec<u8>) {
        // The first byte says that text follows; a program would be 1.
        let filter = [b"\0", interface.filter.as_bytes()].concat();
        let mut block = InterfaceDescriptionBlock {
            block_type: 0,
            block_len1: 0,
            linktype: Linktype(interface.link.0.into()),
            reserved: 0,
            snaplen: interface.snap,
            options: vec![
                text(OptionCode::IfName, interface.name),
                option(OptionCode::IfTsresol, vec![NANOSECONDS]),
                option(OptionCode::IfFilter, filter),
            ],
            block_len2: 0,
            if_tsresol: NANOSECONDS,
            if_tsoffset: 0,
        };
        let number = self.interfaces;
        self.interfaces += 1;
        (number, bytes(&mut block))
    }

    /// A packet: when, in nanoseconds since 1970; how long it was; what of it is kept.
    pub fn packet(interface: u32, time: u64, direction: Direction, length: usize, data: &[u8]) -> Vec<u8> {
        let flags = direction.flags().to_le_bytes().to_vec();
        let kept = u32::try_from(data.len()).expect("packets are bounded by LONGEST");
        let mut block = EnhancedPacketBlock {
            block_type: 0,
            block_len1: 0,
            if_id: interface,
            ts_high: (time >> 32) as u32,
            ts_low: time as u32,
            caplen: kept,
            origlen: u32::try_from(length).unwrap_or(u32::MAX),
            data,
            options: vec![option(FLAGS, flags)],
            block_len2: 0,
        };
        bytes(&mut block)
    }

    /// What became of the packets of an interface until `time`: those that matched, and those of them that were lost
    /// because nobody read them in time.
    pub fn statistics(interface: u32, time: u64, matched: u64, dropped: u64) -> Vec<u8> {
        let number = |code, value: u64| option(code, value.to_le_bytes().to_vec());
        let mut block = InterfaceStatisticsBlock {
            block_type: 0,
            block_len1: 0,
            if_id: interface,
            ts_high: (time >> 32) as u32,
            ts_low: time as u32,
            options: vec![number(OptionCode::IsbFilterAccept, matched), number(OptionCode::IsbOsDrop, dropped)],
            block_len2: 0,
        };
        bytes(&mut block)
    }
}

fn text<'a>(code: OptionCode, text: &str) -> PcapNGOption<'a> {
    // Longer than anything that is said here; the length has 16 bits.
    let mut end = text.len().min(4_096);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    option(code, text.as_bytes()[..end].to_vec())
}

fn option<'a>(code: OptionCode, value: Vec<u8>) -> PcapNGOption<'a> {
    let len = u16::try_from(value.len()).expect("options are bounded by their makers");
    PcapNGOption { code, len, value: Cow::Owned(value) }
}

fn bytes(block: &mut impl ToVec) -> Vec<u8> {
    block.to_vec().expect("a vector takes all that is written to it")
}

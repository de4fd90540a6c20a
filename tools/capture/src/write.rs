//! A pcapng file, written.

//!
//! Blocks and options are those of draft-ietf-opsawg-pcapng, sections 4.1 (section header), 4.2 (interface description), 4.3
//! (enhanced packet) and 4.6 (interface statistics). The reader's library can write them, too, but not without an
//! asynchronous runtime's worth of crates (docs/decisions/0024).

use pcap_parser::OptionCode;

use crate::udp::Link;

/// Option of a packet: its flags.
pub(crate) const FLAGS: OptionCode = OptionCode(2);
/// Nanoseconds, as `if_tsresol` says it.
const NANOSECONDS: u8 = 9;
/// Of a section whose length is not known beforehand.
const UNKNOWN: u64 = u64::MAX;

const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

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
        let mut block = Block::new(SECTION);
        block.number(BYTE_ORDER.to_le_bytes()).number(1u16.to_le_bytes()).number(0u16.to_le_bytes());
        block.number(UNKNOWN.to_le_bytes());
        for comment in comments {
            block.text(OptionCode::Comment, comment);
        }
        block.text(OptionCode::ShbOs, system).text(OptionCode::ShbUserAppl, application);
        (Self::default(), block.end())
    }

    /// One more interface; its number is what [`packet`](Self::packet) takes.
    pub fn interface(&mut self, interface: &Interface<'_>) -> (u32, Vec<u8>) {
        let mut block = Block::new(INTERFACE);
        block.number(interface.link.0.to_le_bytes()).number([0; 2]).number(interface.snap.to_le_bytes());
        block.text(OptionCode::IfName, interface.name).option(OptionCode::IfTsresol, &[NANOSECONDS]);
        // The first byte says that text follows; a program would be 1.
        block.option(OptionCode::IfFilter, &[b"\0", clip(interface.filter)].concat());
        let number = self.interfaces;
        self.interfaces += 1;
        (number, block.end())
    }

    /// A packet: when, in nanoseconds since 1970; how long it was; what of it is kept.
    pub fn packet(interface: u32, time: u64, direction: Direction, length: usize, data: &[u8]) -> Vec<u8> {
        let kept = u32::try_from(data.len()).expect("packets are bounded by LONGEST");
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut block = Block::at(PACKET, interface, time);
        block.number(kept.to_le_bytes()).number(length.to_le_bytes()).padded(data);
        block.option(FLAGS, &direction.flags().to_le_bytes());
        block.end()
    }

    /// What became of the packets of an interface until `time`: those that matched, and those of them that were lost
    /// because nobody read them in time.
    pub fn statistics(interface: u32, time: u64, matched: u64, dropped: u64) -> Vec<u8> {
        let mut block = Block::at(STATISTICS, interface, time);
        block.option(OptionCode::IsbFilterAccept, &matched.to_le_bytes());
        block.option(OptionCode::IsbOsDrop, &dropped.to_le_bytes());
        block.end()
    }
}

/// The first bytes of a text; no option is longer than its length's 16 bits.
fn clip(text: &str) -> &[u8] {
    let mut end = text.len().min(4_096);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

/// A block as it grows: its kind, its length, what is in it, its length again.
struct Block(Vec<u8>);

impl Block {
    fn new(kind: u32) -> Self {
        Self([kind.to_le_bytes(), [0; 4]].concat())
    }

    fn at(kind: u32, interface: u32, time: u64) -> Self {
        let mut block = Self::new(kind);
        block.number(interface.to_le_bytes());
        block.number(((time >> 32) as u32).to_le_bytes()).number((time as u32).to_le_bytes());
        block
    }

    fn number<const N: usize>(&mut self, number: [u8; N]) -> &mut Self {
        self.0.extend_from_slice(&number);
        self
    }

    fn padded(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn option(&mut self, code: OptionCode, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len()).expect("options are bounded by their makers");
        self.number(code.0.to_le_bytes()).number(length.to_le_bytes()).padded(value)
    }

    fn text(&mut self, code: OptionCode, text: &str) -> &mut Self {
        self.option(code, clip(text))
    }

    /// All of them have options; their list ends with one of nothing.
    fn end(mut self) -> Vec<u8> {
        self.option(OptionCode::EndOfOpt, &[]);
        let length = u32::try_from(self.0.len() + 4).expect("blocks are bounded by LONGEST").to_le_bytes();
        self.number(length);
        self.0[4..8].copy_from_slice(&length);
        self.0
    }
}

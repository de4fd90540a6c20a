//! Files of captures, read.

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};

use pcap_parser::traits::{PcapNGPacketBlock as _, PcapReaderIterator};
use pcap_parser::{
    Block, EnhancedPacketBlock, ISB_MAGIC, InterfaceDescriptionBlock, InterfaceStatisticsBlock, LegacyPcapBlock,
    OptionCode, PcapBlockOwned, PcapError, PcapHeader, PcapNGOption, create_reader,
};

use crate::udp::Link;
use crate::write::{Direction, FLAGS};

/// What is read at once, bytes; it grows for longer blocks.
const BUFFER: usize = 1 << 16;
/// Longest block that is read, bytes. Writers stop at 256 KiB of packet.
const MAX_BLOCK: usize = 16 << 20;
/// Most interfaces of one section.
const MAX_INTERFACES: usize = 1 << 16;
/// A pcapng file begins with this in either byte order.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION_LITTLE: [u8; 4] = [0x4d, 0x3c, 0x2b, 0x1a];

/// Why a file cannot be read further. What came before was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is something else.
    #[error("it is neither pcap nor pcapng: it begins with {begins:02x?}")]
    NoCapture {
        /// Its first bytes.
        begins: Vec<u8>,
    },
    /// It ends where more should be: the capture was cut off, or goes on elsewhere.
    #[error("it ends in the middle of what begins at byte {offset}; what stands before that was read")]
    Cut {
        /// Where the block begins that is not whole.
        offset: u64,
    },
    /// A block that contradicts itself.
    #[error("at byte {offset} stands no {what}; the file is damaged there, what stands before was read")]
    Broken {
        /// Where it begins.
        offset: u64,
        /// What should be there.
        what: &'static str,
    },
    /// A block of a length that no writer makes.
    #[error("what begins at byte {offset} is longer than {} MiB; the file is damaged there", MAX_BLOCK >> 20)]
    TooLong {
        /// Where it begins.
        offset: u64,
    },
    /// The file cannot be read.
    #[error("reading failed at byte {offset}{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Failed {
        /// So far it was read.
        offset: u64,
        /// What the system said, where it is known.
        why: Option<io::Error>,
    },
}

/// A packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From 1.
    pub number: u64,
    /// Where its block begins in the file.
    pub offset: u64,
    /// When it was captured, nanoseconds since 1970; none where the file does not say.
    pub time: Option<u64>,
    /// How it begins.
    pub link: Link,
    /// Its length where it was captured; [`data`](Self::data) may be shorter.
    pub length: u32,
    /// Its bytes, as many as were captured.
    pub data: &'a [u8],
    /// Which way it went, where the file says so.
    pub direction: Option<Direction>,
}

/// What a file holds, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// What somebody wrote about the section or an interface.
    Comment(String),
    /// So many packets were lost where the capture was made, as the file's statistics say.
    Dropped(u64),
}

/// What is known of an interface of a pcapng section, or of the one of a pcap file.
#[derive(Clone, Copy)]
struct Interface {
    link: Link,
    snap: u32,
    /// `if_tsresol`: 10^-n of a second, with its top bit 2^-n.
    resolution: u8,
    /// Seconds.
    offset: i64,
}

/// Reads a capture, pcap or pcapng, packet by packet as it comes.
pub struct Reader<'r> {
    inner: Box<dyn PcapReaderIterator + Send + 'r>,
    interfaces: Vec<Interface>,
    /// Nanoseconds in a pcap file's fractions.
    fraction: u64,
    packets: u64,
    waiting: VecDeque<Item<'static>>,
    data: Vec<u8>,
}

/// What one block gives; a packet's bytes are in the reader.
enum Step {
    Packet { number: u64, offset: u64, time: Option<u64>, link: Link, length: u32, direction: Option<Direction> },
    Nothing,
}

impl<'r> Reader<'r> {
    /// Reads the beginning.
    pub fn new(mut source: impl Read + Send + 'r) -> Result<Self, ReadError> {
        let (head, whole) = head(&mut source)?;
        if is_known(&head) && !whole {
            return Err(ReadError::Cut { offset: 0 });
        }
        let begins = || ReadError::NoCapture { begins: head[..head.len().min(8)].to_vec() };
        // What is read first must hold the first header whole; a pipe gives less.
        let source = Source { head: Cursor::new(head.clone()), rest: source };
        let inner = create_reader(BUFFER.max(2 * head.len()), source).map_err(|error| match error {
            PcapError::ReadError => ReadError::Failed { offset: 0, why: None },
            _ => begins(),
        })?;
        Ok(Self {
            inner,
            interfaces: Vec::new(),
            fraction: 1_000,
            packets: 0,
            waiting: VecDeque::new(),
            data: Vec::new(),
        })
    }

    /// The next of what the file holds; none at its end. After an error nothing more is to be had.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Ok(Some(item));
            }
            let Some(step) = self.step()? else { return Ok(None) };
            if let Step::Packet { number, offset, time, link, length, direction } = step {
                let data = &self.data;
                return Ok(Some(Item::Packet(Packet { number, offset, time, link, length, data, direction })));
            }
        }
    }

    fn step(&mut self) -> Result<Option<Step>, ReadError> {
        let offset = self.inner.consumed() as u64;
        let (length, step) = loop {
            let wanted = match self.inner.next() {
                Ok((length, block)) => {
                    let mut seen = Seen {
                        interfaces: &mut self.interfaces,
                        fraction: &mut self.fraction,
                        packets: &mut self.packets,
                        waiting: &mut self.waiting,
                        data: &mut self.data,
                    };
                    break (length, seen.block(offset, &block)?);
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => None,
                Err(PcapError::BufferTooSmall) => Some(self.inner.data().len().max(BUFFER) * 2),
                Err(PcapError::UnexpectedEof) => return Err(ReadError::Cut { offset }),
                Err(PcapError::ReadError) => return Err(ReadError::Failed { offset, why: None }),
                Err(_) => return Err(ReadError::Broken { offset, what: "whole block" }),
            };
            if let Some(size) = wanted {
                if size > 2 * MAX_BLOCK {
                    return Err(ReadError::TooLong { offset });
                }
                self.inner.grow(size);
            }
            self.inner.refill().map_err(|_| ReadError::Failed { offset, why: None })?;
        };
        if length == 0 {
            return Err(ReadError::Broken { offset, what: "whole block" });
        }
        self.inner.consume(length);
        Ok(Some(step))
    }
}

/// The reader without the file.
struct Seen<'s> {
    interfaces: &'s mut Vec<Interface>,
    fraction: &'s mut u64,
    packets: &'s mut u64,
    waiting: &'s mut VecDeque<Item<'static>>,
    data: &'s mut Vec<u8>,
}

impl Seen<'_> {
    fn block(&mut self, offset: u64, block: &PcapBlockOwned<'_>) -> Result<Step, ReadError> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => self.legacy_header(header),
            PcapBlockOwned::Legacy(packet) => return self.legacy(offset, packet),
            PcapBlockOwned::NG(Block::SectionHeader(section)) => {
                self.interfaces.clear();
                self.comments(&section.options);
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => self.interface(offset, interface)?,
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => return self.enhanced(offset, packet),
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let interface = self.interface_of(offset, 0)?;
                let most = if interface.snap == 0 { packet.origlen } else { packet.origlen.min(interface.snap) };
                let data = packet.data.get(..most as usize).unwrap_or(packet.data);
                return Ok(self.packet(offset, None, interface.link, packet.origlen, None, data));
            }
            PcapBlockOwned::NG(Block::InterfaceStatistics(statistics)) => self.statistics(statistics),
            PcapBlockOwned::NG(_) => {}
        }
        Ok(Step::Nothing)
    }

    fn legacy_header(&mut self, header: &PcapHeader) {
        *self.fraction = if header.is_nanosecond_precision() { 1 } else { 1_000 };
        // The upper half says whether there is a frame check sequence behind each packet.
        let link = Link((header.network.0 & 0xffff) as u16);
        *self.interfaces = vec![Interface { link, snap: 0, resolution: 0, offset: 0 }];
    }

    fn legacy(&mut self, offset: u64, packet: &LegacyPcapBlock<'_>) -> Result<Step, ReadError> {
        let interface = self.interface_of(offset, 0)?;
        let time = u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_usec) * *self.fraction;
        Ok(self.packet(offset, Some(time), interface.link, packet.origlen, None, packet.data))
    }

    fn interface(&mut self, offset: u64, block: &InterfaceDescriptionBlock<'_>) -> Result<(), ReadError> {
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(ReadError::Broken { offset, what: "packet, but one interface too many" });
        }
        let link = Link((block.linktype.0 & 0xffff) as u16);
        let (snap, resolution) = (block.snaplen, block.if_tsresol);
        self.interfaces.push(Interface { link, snap, resolution, offset: block.if_tsoffset });
        self.comments(&block.options);
        Ok(())
    }

    fn interface_of(&self, offset: u64, id: u32) -> Result<Interface, ReadError> {
        let missing = ReadError::Broken { offset, what: "packet of an interface that the file describes" };
        self.interfaces.get(id as usize).copied().ok_or(missing)
    }

    fn enhanced(&mut self, offset: u64, packet: &EnhancedPacketBlock<'_>) -> Result<Step, ReadError> {
        let interface = self.interface_of(offset, packet.if_id)?;
        let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
        let flags = packet.options.iter().find(|option| option.code == FLAGS).and_then(|option| {
            let flags = option.value().get(..4)?.try_into().ok()?;
            Some(if packet.big_endian() { u32::from_be_bytes(flags) } else { u32::from_le_bytes(flags) })
        });
        let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
        let time = interface.nanoseconds(ticks);
        let direction = flags.and_then(Direction::from_flags);
        Ok(self.packet(offset, time, interface.link, packet.origlen, direction, data))
    }

    fn packet(
        &mut self,
        offset: u64,
        time: Option<u64>,
        link: Link,
        length: u32,
        direction: Option<Direction>,
        data: &[u8],
    ) -> Step {
        *self.packets += 1;
        self.data.clear();
        self.data.extend_from_slice(data);
        Step::Packet { number: *self.packets, offset, time, link, length, direction }
    }

    fn comments(&mut self, options: &[PcapNGOption<'_>]) {
        for option in options.iter().filter(|option| option.code == OptionCode::Comment).take(16) {
            if let Ok(text) = option.as_bytes() {
                self.waiting.push_back(Item::Comment(String::from_utf8_lossy(text).into_owned()));
            }
        }
    }

    fn statistics(&mut self, block: &InterfaceStatisticsBlock<'_>) {
        let big = block.block_type != ISB_MAGIC;
        let number = |option: &PcapNGOption<'_>| -> Option<u64> {
            let bytes = option.value().get(..8)?.try_into().ok()?;
            Some(if big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
        };
        let of = |code| block.options.iter().find(|option| option.code == code).and_then(number).unwrap_or(0);
        let dropped = of(OptionCode::IsbIfDrop).saturating_add(of(OptionCode::IsbOsDrop));
        if dropped > 0 {
            self.waiting.push_back(Item::Dropped(dropped));
        }
    }
}

impl Interface {
    /// Nanoseconds since 1970; none where they do not fit.
    fn nanoseconds(&self, ticks: u64) -> Option<u64> {
        let exponent = u32::from(self.resolution & 0x7f);
        let base: u128 = if self.resolution & 0x80 == 0 { 10 } else { 2 };
        let unit = base.checked_pow(exponent)?;
        let nanoseconds = u128::from(ticks).checked_mul(1_000_000_000)? / unit;
        let offset = i128::from(self.offset) * 1_000_000_000;
        u64::try_from(i128::try_from(nanoseconds).ok()?.checked_add(offset)?).ok()
    }
}

fn is_known(head: &[u8]) -> bool {
    const MAGICS: [[u8; 4]; 5] = [
        SECTION,
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
    ];
    MAGICS.iter().any(|magic| head.starts_with(magic))
}

/// The file's first header, 24 bytes of pcap or as many as a section's header says, and whether it is whole.
fn head(source: &mut impl Read) -> Result<(Vec<u8>, bool), ReadError> {
    let failed = |why| ReadError::Failed { offset: 0, why: Some(why) };
    let mut head = Vec::new();
    let mut wanted = 24;
    source.take(wanted).read_to_end(&mut head).map_err(failed)?;
    if head.len() == 24 && head.starts_with(&SECTION) {
        let length: [u8; 4] = [head[4], head[5], head[6], head[7]];
        let little = head[8..12] == SECTION_LITTLE;
        let length = if little { u32::from_le_bytes(length) } else { u32::from_be_bytes(length) };
        wanted = length.clamp(24, 1 << 16).into();
        source.take(wanted - 24).read_to_end(&mut head).map_err(failed)?;
    }
    let whole = head.len() as u64 == wanted;
    Ok((head, whole))
}

/// The head as one read, then the rest.
struct Source<R> {
    head: Cursor<Vec<u8>>,
    rest: R,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => loop {
                match self.rest.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => return other,
                }
            },
            n => Ok(n),
        }
    }
}

#[cfg(test)]
mod tests;

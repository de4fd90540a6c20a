//! From a packet to its UDP datagram.

use std::net::SocketAddr;

use etherparse::{EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// How packets of an interface begin: a number of <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link(pub u16);

impl Link {
    /// The address family in the capturing host's byte order, then IP.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// IP.
    pub const RAW: Self = Self(101);
    /// As [`NULL`](Self::NULL), in network order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked", version 1: 16 bytes.
    pub const COOKED: Self = Self(113);
    /// IPv4.
    pub const IPV4: Self = Self(228);
    /// IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked", version 2: 20 bytes.
    pub const COOKED_2: Self = Self(276);
}

/// A UDP datagram of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// What it carries, as far as it was captured and is in this packet.
    pub payload: &'a [u8],
    /// How much it carries, as its header says.
    pub length: usize,
    /// The rest of it is in other packets.
    pub fragment: bool,
}

impl Datagram<'_> {
    /// All it carries is there.
    pub fn is_whole(&self) -> bool {
        self.payload.len() == self.length
    }
}

/// What a packet is that is no UDP datagram, or of which none can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Other {
    /// Packets of this kind of interface are not read here.
    Link(Link),
    /// No IP, or another protocol than UDP.
    NotUdp,
    /// A later piece of something that was sent in several.
    Fragment,
    /// Its headers contradict themselves, or were not captured whole.
    Broken,
}

/// Whether IPv6's extension headers say that this is a later piece of a fragmented packet (RFC 8200, section 4). The library's own walk over
/// them reads beyond the end of headers that are cut.
fn is_later_piece(mut header: u8, mut rest: &[u8]) -> bool {
    while let [next, length, more @ ..] = rest {
        let bytes = match header {
            44 => return more.first_chunk().is_some_and(|offset| u16::from_be_bytes(*offset) >> 3 != 0),
            // The authentication header counts in words of four bytes, two of which do not count.
            51 => (usize::from(*length) + 2) * 4,
            _ => (usize::from(*length) + 1) * 8,
        };
        header = *next;
        rest = rest.get(bytes..).unwrap_or_default();
    }
    false
}

/// The UDP datagram of a packet.
///
/// # Errors
/// Where it is something else.
pub fn datagram(link: Link, packet: &[u8]) -> Result<Datagram<'_>, Other> {
    let packet = below_link(link, packet)?;
    let (net, source, destination) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let fragment = header.fragments_offset().value() != 0;
            ((ip.payload(), fragment), header.source_addr().into(), header.destination_addr().into())
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let later = is_later_piece(header.next_header().0, ip.extensions().slice());
            ((ip.payload(), later), header.source_addr().into(), header.destination_addr().into())
        }
        _ if packet.stop_err.is_some() => return Err(Other::Broken),
        _ => return Err(Other::NotUdp),
    };
    let (ip, later): (_, bool) = net;
    if later {
        return Err(Other::Fragment);
    }
    if ip.ip_number != IpNumber::UDP {
        let cut = matches!(packet.stop_err, Some((_, etherparse::err::Layer::UdpHeader)));
        return Err(if cut { Other::Broken } else { Other::NotUdp });
    }
    let bytes = match &packet.transport {
        Some(TransportSlice::Udp(udp)) => udp.slice(),
        // The first of several pieces has the header.
        _ => ip.payload,
    };
    read(source, destination, bytes, ip.payload, ip.fragmented)
}

fn read<'a>(
    source: std::net::IpAddr,
    destination: std::net::IpAddr,
    udp: &'a [u8],
    rest: &'a [u8],
    fragment: bool,
) -> Result<Datagram<'a>, Other> {
    let header: &[u8; 8] = udp.first_chunk().ok_or(Other::Broken)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (from, to) = (SocketAddr::new(source, word(0)), SocketAddr::new(destination, word(2)));
    // 0: longer than the field can say (RFC 2675, and what a kernel has not cut yet).
    let length = match usize::from(word(4)) {
        0 => rest.len(),
        length => length,
    };
    let length = length.checked_sub(8).ok_or(Other::Broken)?;
    let payload = &rest[8..];
    let payload = payload.get(..length).unwrap_or(payload);
    Ok(Datagram { from, to, payload, length, fragment })
}

fn below_link(link: Link, packet: &[u8]) -> Result<LaxSlicedPacket<'_>, Other> {
    let behind = |at: usize| packet.get(at..).ok_or(Other::Broken);
    let typed = |at: usize, header: usize| {
        let kind = packet.get(at..at + 2).ok_or(Other::Broken)?;
        let kind = EtherType(u16::from_be_bytes([kind[0], kind[1]]));
        Ok(LaxSlicedPacket::from_ether_type(kind, behind(header)?))
    };
    let ip = |bytes| LaxSlicedPacket::from_ip(bytes).map_err(|_| Other::Broken);
    match link {
        Link::ETHERNET => LaxSlicedPacket::from_ethernet(packet).map_err(|_| Other::Broken),
        Link::COOKED => typed(14, 16),
        Link::COOKED_2 => typed(0, 20),
        // The family's number differs from system to system; the packet says itself which it is.
        Link::NULL | Link::LOOP => ip(behind(4)?),
        // 12 and 14: some systems' number for the same, in files older than 101.
        Link::RAW | Link::IPV4 | Link::IPV6 | Link(12 | 14) => ip(packet),
        other => Err(Other::Link(other)),
    }
}

#[cfg(test)]
mod tests;

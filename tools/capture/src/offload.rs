//! What a kernel leaves to the device, done: one large datagram cut into those that go over the wire, checksums
//! filled in.
//!
//! A program that sends many datagrams with one system call (UDP_SEGMENT) gives the kernel one large datagram, and who
//! listens at the device sees that. What comes in may have been put together again (UDP_GRO) before. Beside the packet
//! the kernel says how long the pieces are: `virtio_net_hdr` (virtio 1.2, 5.1.6; linux/virtio_net.h).

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4Header, LaxNetSlice, LaxSlicedPacket, UdpHeader};

const NEEDS_CHECKSUM: u8 = 1;
/// UDP datagrams, all as long as the header says but the last.
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What is left to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The UDP checksum is not filled in.
    pub checksum: bool,
    /// The payload is of several datagrams, each of so many bytes but the last.
    pub segment: Option<u16>,
}

impl Offload {
    /// Length of what the kernel says, bytes.
    pub const LENGTH: usize = 10;

    /// Reads what the kernel says before a packet, in its own byte order.
    pub fn read(header: &[u8; Self::LENGTH]) -> Self {
        let size = u16::from_ne_bytes([header[4], header[5]]);
        let udp = header[1] & !GSO_ECN == GSO_UDP_L4 && size > 0;
        Self { checksum: header[0] & NEEDS_CHECKSUM != 0, segment: udp.then_some(size) }
    }
}

/// Gives `take` the packets that go over the wire for `packet`, whose IP header begins at `net`. One that has nothing
/// left to do, is no whole UDP datagram over IP or was not captured whole is given as it is.
pub fn datagrams(packet: &[u8], net: usize, offload: Offload, mut take: impl FnMut(&[u8])) {
    let whole = (offload != Offload::default()).then(|| Whole::read(packet, net)).flatten();
    let Some(whole) = whole else { return take(packet) };
    let size = offload.segment.map_or(usize::MAX, usize::from);
    let mut out = Vec::with_capacity(whole.udp + 8 + whole.payload.len().min(size));
    let mut rest = whole.payload;
    let mut number = 0;
    loop {
        let (piece, later) = rest.split_at(rest.len().min(size));
        whole.write(piece, number, &mut out);
        take(&out);
        (rest, number) = (later, number.wrapping_add(1));
        if rest.is_empty() {
            return;
        }
    }
}

enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// A packet with a whole UDP datagram.
struct Whole<'a> {
    packet: &'a [u8],
    net: usize,
    /// Where the UDP header begins.
    udp: usize,
    payload: &'a [u8],
    addresses: Addresses,
    /// The sender fills in checksums: in IPv4 it need not.
    summed: bool,
}

impl<'a> Whole<'a> {
    fn read(packet: &'a [u8], net: usize) -> Option<Self> {
        let bytes = packet.get(net..)?;
        let sliced = LaxSlicedPacket::from_ip(bytes).ok()?;
        let (ip, addresses) = match &sliced.net {
            Some(LaxNetSlice::Ipv4(v4)) => {
                let header = v4.header();
                (v4.payload(), Addresses::V4(header.source_addr(), header.destination_addr()))
            }
            Some(LaxNetSlice::Ipv6(v6)) => {
                let header = v6.header();
                (v6.payload(), Addresses::V6(header.source_addr(), header.destination_addr()))
            }
            _ => return None,
        };
        if ip.fragmented || ip.incomplete || ip.ip_number != etherparse::IpNumber::UDP {
            return None;
        }
        let payload = ip.payload.get(8..)?;
        // Both are of one memory: the distance is where the header stands.
        let udp = net + (ip.payload.as_ptr() as usize - bytes.as_ptr() as usize);
        let summed = packet[udp + 6..udp + 8] != [0, 0];
        Some(Self { packet, net, udp, payload, addresses, summed })
    }

    fn write(&self, piece: &[u8], number: u16, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.packet[..self.net]);
        let ip = &self.packet[self.net..self.udp];
        let length = ip.len() + 8 + piece.len();
        let ports = &self.packet[self.udp..];
        let (source, destination) =
            (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
        let length_of = |bytes: usize| u16::try_from(bytes).unwrap_or(0);
        let mut udp = UdpHeader {
            source_port: source,
            destination_port: destination,
            length: length_of(8 + piece.len()),
            checksum: 0,
        };
        match self.addresses {
            Addresses::V4(from, to) => {
                out.extend_from_slice(&self.ipv4(ip, length_of(length), number));
                let sum = udp.calc_checksum_ipv4_raw(from.octets(), to.octets(), piece);
                udp.checksum = if self.summed { sum.unwrap_or(0) } else { 0 };
            }
            Addresses::V6(from, to) => {
                out.extend_from_slice(ip);
                let field = self.net + 4;
                out[field..field + 2].copy_from_slice(&length_of(length - 40).to_be_bytes());
                udp.checksum = udp.calc_checksum_ipv6_raw(from.octets(), to.octets(), piece).unwrap_or(0);
            }
        }
        out.extend_from_slice(&udp.to_bytes());
        out.extend_from_slice(piece);
    }

    /// The header, and what extends it, of one of several: a length, number and checksum of its own.
    fn ipv4(&self, ip: &[u8], length: u16, number: u16) -> Vec<u8> {
        let Ok((mut header, extensions)) = Ipv4Header::from_slice(ip) else { return ip.to_vec() };
        header.total_len = length;
        header.identification = header.identification.wrapping_add(number);
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], extensions].concat()
    }
}

#[cfg(test)]
mod tests;

use etherparse::{PacketBuilder, SlicedPacket};
use proptest::prelude::*;

use super::*;
use crate::udp::{Link, datagram};

fn cut(packet: &[u8], net: usize, offload: Offload) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    datagrams(packet, net, offload, |one| all.push(one.to_vec()));
    all
}

/// As a kernel has it: lengths of the whole, checksums of the pseudo header or nothing.
fn large(v6: bool, payload: &[u8]) -> Vec<u8> {
    let ether = PacketBuilder::ethernet2([1; 6], [2; 6]);
    let mut bytes = Vec::new();
    if v6 {
        ether.ipv6([1; 16], [2; 16], 64).udp(7, 9).write(&mut bytes, payload).unwrap();
    } else {
        ether.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(7, 9).write(&mut bytes, payload).unwrap();
    }
    let sum = if v6 { 14 + 40 + 6 } else { 14 + 20 + 6 };
    bytes[sum..sum + 2].copy_from_slice(&[0x12, 0x34]);
    bytes
}

fn is_sound(packet: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ethernet(packet).unwrap();
    let Some(etherparse::TransportSlice::Udp(udp)) = &sliced.transport else { return false };
    let header = udp.to_header();
    match sliced.net.unwrap() {
        etherparse::NetSlice::Ipv4(ip) => {
            let ip = ip.header().to_header();
            ip.header_checksum == ip.calc_header_checksum()
                && header.checksum == header.calc_checksum_ipv4(&ip, udp.payload()).unwrap()
        }
        etherparse::NetSlice::Ipv6(ip) => {
            header.checksum == header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap()
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn the_pieces_are_the_whole(v6 in any::<bool>(), payload in proptest::collection::vec(any::<u8>(), 1..4_000), size in 1u16..1_500) {
        let packet = large(v6, &payload);
        let pieces = cut(&packet, 14, Offload { checksum: true, segment: Some(size) });
        prop_assert_eq!(pieces.len(), payload.len().div_ceil(size.into()));
        let mut found = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            prop_assert!(is_sound(piece));
            prop_assert_eq!(&piece[..14], &packet[..14]);
            let datagram = datagram(Link::ETHERNET, piece).unwrap();
            prop_assert!(datagram.is_whole() && (datagram.from.port(), datagram.to.port()) == (7, 9));
            prop_assert!(datagram.length == usize::from(size) || number + 1 == pieces.len());
            if !v6 {
                prop_assert_eq!(usize::from(u16::from_be_bytes([piece[18], piece[19]])), number);
            }
            found.extend_from_slice(datagram.payload);
        }
        prop_assert_eq!(found, payload);
    }

    #[test]
    fn it_is_total(mut packet in proptest::collection::vec(any::<u8>(), 0..80), net in 0..90usize, segment in any::<Option<u16>>(), v6 in any::<bool>(), flips in proptest::collection::vec((0..70usize, any::<u8>()), 0..5)) {
        let offload = Offload { checksum: true, segment: segment.filter(|size| *size > 0) };
        cut(&packet, net, offload);
        packet = large(v6, b"some bytes");
        for (at, byte) in flips {
            let at = at % packet.len();
            packet[at] = byte;
        }
        cut(&packet, 14, offload);
    }
}

#[test]
fn a_checksum_is_filled_in_and_what_needs_nothing_stays() {
    let packet = large(false, b"hello");
    assert_eq!(cut(&packet, 14, Offload::default()), std::slice::from_ref(&packet));
    let [done] = &cut(&packet, 14, Offload { checksum: true, segment: None })[..] else { panic!("one") };
    assert!(is_sound(done) && !is_sound(&packet));
    // Cut off, or a piece: nobody knows the sum.
    let half = &packet[..packet.len() - 2];
    assert_eq!(cut(half, 14, Offload { checksum: true, segment: None }), [half.to_vec()]);
    // IPv4 without a checksum stays so.
    let mut none = packet.clone();
    none[40..42].copy_from_slice(&[0, 0]);
    let [done] = &cut(&none, 14, Offload { checksum: false, segment: Some(100) })[..] else { panic!("one") };
    assert_eq!(done[40..42], [0, 0]);
}

#[test]
fn what_the_kernel_says_is_read() {
    let size = 1_200u16.to_ne_bytes();
    let said = |kind: u8| Offload::read(&[1, kind, 0, 0, size[0], size[1], 34, 0, 6, 0]);
    assert_eq!(said(5), Offload { checksum: true, segment: Some(1_200) });
    assert_eq!(said(5 | 0x80), said(5));
    // TCP is no business of ours.
    assert_eq!(said(1), Offload { checksum: true, segment: None });
    assert_eq!(Offload::read(&[0; 10]), Offload::default());
}

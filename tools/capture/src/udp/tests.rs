use etherparse::{Ipv4Header, PacketBuilder};
use proptest::prelude::*;

use super::*;

const PAYLOAD: &[u8] = b"echo-server";

fn built(packet: etherparse::PacketBuilderStep<etherparse::UdpHeader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.write(&mut bytes, PAYLOAD).unwrap();
    bytes
}

fn ip4() -> Vec<u8> {
    built(PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(40_000, 3_359))
}

fn ip6() -> Vec<u8> {
    let (a, b) = (std::net::Ipv6Addr::LOCALHOST.octets(), "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    built(PacketBuilder::ipv6(a, b, 64).udp(40_000, 3_359))
}

#[test]
fn every_kind_of_link_leads_to_the_datagram() {
    let ether = || PacketBuilder::ethernet2([1; 6], [2; 6]);
    let frame = built(ether().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(40_000, 3_359));
    let tagged = ether().single_vlan(etherparse::VlanId::try_new(7).unwrap());
    let tagged = built(tagged.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(40_000, 3_359));
    let twice = ether().double_vlan(etherparse::VlanId::try_new(7).unwrap(), etherparse::VlanId::try_new(8).unwrap());
    let twice = built(twice.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(40_000, 3_359));
    let before = |head: &[u8], packet: Vec<u8>| [head, &packet].concat();
    let cooked = [&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0][..], &[8, 0]].concat();
    let cooked_2 = [&[0x86, 0xdd][..], &[0; 18]].concat();
    let table = [
        // A short frame is padded to 60 bytes.
        (Link::ETHERNET, [&frame[..], &[0; 9]].concat()),
        (Link::ETHERNET, frame),
        (Link::ETHERNET, tagged),
        (Link::ETHERNET, twice),
        (Link::RAW, ip4()),
        (Link(12), ip6()),
        (Link::IPV4, ip4()),
        (Link::IPV6, ip6()),
        (Link::NULL, before(&[2, 0, 0, 0], ip4())),
        (Link::LOOP, before(&[0, 0, 0, 24], ip6())),
        (Link::COOKED, before(&cooked, ip4())),
        (Link::COOKED_2, before(&cooked_2, ip6())),
    ];
    for (link, packet) in table {
        let found = datagram(link, &packet).unwrap_or_else(|other| panic!("{link:?}: {other:?}"));
        assert_eq!((found.from.port(), found.to.port(), found.payload), (40_000, 3_359, PAYLOAD), "{link:?}");
        assert!(found.is_whole() && !found.fragment);
        // Cut anywhere, it is read as far as it goes.
        for end in 0..packet.len() {
            if let Ok(found) = datagram(link, &packet[..end]) {
                assert!(PAYLOAD.starts_with(found.payload));
            }
        }
    }
    assert_eq!(datagram(Link(105), &ip4()), Err(Other::Link(Link(105))));
}

#[test]
fn what_extends_a_header_is_passed_over() {
    let mut header =
        Ipv4Header::new(8 + PAYLOAD.len() as u16, 64, IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
    // A record of the route, two places.
    header.options = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0].into();
    header.set_payload_len(8 + PAYLOAD.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let packet = [&header.to_bytes()[..], &ip4()[20..]].concat();
    assert_eq!(datagram(Link::RAW, &packet).unwrap().payload, PAYLOAD);

    // Hop-by-hop and destination options before UDP.
    let mut packet = ip6();
    packet.splice(40..40, [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]);
    packet[6] = 0;
    let length = u16::from_be_bytes([packet[4], packet[5]]) + 16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    assert_eq!(datagram(Link::RAW, &packet).unwrap().payload, PAYLOAD);
}

#[test]
fn pieces_are_said_to_be_pieces() {
    // More fragments: the first one has the header, and less than that says.
    let mut first = ip4();
    first[6] = 0x20;
    first.truncate(20 + 8 + 5);
    first[2..4].copy_from_slice(&33u16.to_be_bytes());
    let found = datagram(Link::RAW, &first).unwrap();
    assert_eq!((found.payload, found.length, found.fragment), (&PAYLOAD[..5], PAYLOAD.len(), true));
    let mut later = ip4();
    later[7] = 2;
    assert_eq!(datagram(Link::RAW, &later), Err(Other::Fragment));
    // The same in IPv6, by an extension.
    let mut six = ip6();
    six.splice(40..40, [17, 0, 0, 1, 0, 0, 0, 9]);
    six[6] = 44;
    let length = u16::from_be_bytes([six[4], six[5]]) + 8;
    six[4..6].copy_from_slice(&length.to_be_bytes());
    assert!(datagram(Link::RAW, &six).unwrap().fragment);
    six[43] = 0x40;
    assert_eq!(datagram(Link::RAW, &six), Err(Other::Fragment));
}

#[test]
fn what_is_no_udp_is_told_from_what_is_broken() {
    let mut tcp = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4).write(&mut tcp, b"x").unwrap();
    assert_eq!(datagram(Link::RAW, &tcp), Err(Other::NotUdp));
    let arp = [[0xff; 6], [2; 6]].concat();
    let arp = [&arp[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 20]].concat();
    assert_eq!(datagram(Link::ETHERNET, &arp), Err(Other::NotUdp));
    assert_eq!(datagram(Link::RAW, &ip4()[..24]), Err(Other::Broken));
    assert_eq!(datagram(Link::RAW, &[0x45]), Err(Other::Broken));
    assert_eq!(datagram(Link::RAW, &[]), Err(Other::Broken));
}

proptest! {
    #[test]
    fn reading_is_total(link in prop_oneof![0u16..=20, 100u16..=120, 225u16..=280], mut packet in proptest::collection::vec(any::<u8>(), 0..100), flips in proptest::collection::vec((0..60usize, any::<u8>()), 0..5)) {
        let _ = datagram(Link(link), &packet);
        packet = ip6();
        for (at, byte) in flips {
            let at = at % packet.len();
            packet[at] = byte;
        }
        if let Ok(found) = datagram(Link::RAW, &packet) {
            prop_assert!(found.payload.len() <= found.length);
        }
    }
}

/// Found by fuzzing: IPv6 extension headers that end in the middle.
#[test]
fn headers_that_are_cut_are_not_read_beyond_their_end() {
    let packet = [
        0x67, 0x92, 0xfe, 0x00, 0x00, 0x00, 0x2c, 0x2c, 0x2c, 0x2c, 0x5d, 0x01, 0x92, 0x92, 0x92, 0x92, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x12, 0x92, 0xdf, 0x67, 0x92, 0xfe, 0x00, 0x00, 0x00, 0x92, 0xef, 0x60, 0x00, 0x00, 0xff,
        0xdf, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf2, 0x00, 0xef, 0x00, 0x2f, 0x00,
    ];
    for link in [0, 1, 12, 101, 108, 113, 228, 229, 276] {
        assert!(datagram(Link(link), &packet).is_err(), "{link}");
    }
}

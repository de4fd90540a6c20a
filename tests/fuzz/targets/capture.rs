//! Any bytes as a capture, and as a packet of each kind of link: no panic, and what is printed does nothing to a terminal.
#![no_main]

use capture::{Datagram, Item, Link, Offload, Packet, Reader};
use flowdump::machine::row::Row;
use flowdump::machine::tap::Tap;
use flowdump::machine::words;
use libfuzzer_sys::fuzz_target;

const LINKS: [u16; 9] = [0, 1, 12, 101, 108, 113, 228, 229, 276];

fuzz_target!(|bytes: &[u8]| {
    let mut tap = Tap::new([3_360]);
    file(&mut tap, bytes);
    // The fuzzer does not guess the header of a file, nor that of a packet.
    let length = (bytes.len() as u32).to_le_bytes();
    let head = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0];
    file(&mut tap, &[&head[..], &[0; 8], &length, &length, bytes].concat());
    for link in LINKS {
        packet(&mut tap, Link(link), bytes);
    }
    let udp = |to: u8| {
        let lengths = [(bytes.len() as u16 + 28).to_be_bytes(), (bytes.len() as u16 + 8).to_be_bytes()];
        let ip = [[0x45, 0], lengths[0], [0; 2], [0; 2], [64, 17], [0; 2], [10, 0], [0, 3 - to], [10, 0], [0, to]];
        [&ip.concat()[..], &[0x9c, 0x40, 0x0d, 0x1f], &lengths[1], &[0; 2], bytes].concat()
    };
    packet(&mut tap, Link::RAW, &udp(1));
    packet(&mut tap, Link::RAW, &udp(2));
    let offload = Offload { checksum: true, segment: bytes.first().map(|size| u16::from(*size) + 1) };
    let mut all = 0;
    capture::datagrams(&udp(1), 0, offload, |one| all += one.len() - 28);
    assert_eq!(all, bytes.len());
    capture::datagrams(bytes, 0, offload, |_| {});
});

fn file(tap: &mut Tap, bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    while let Ok(Some(item)) = reader.next_item() {
        match item {
            Item::Packet(Packet { link, data, .. }) => packet(tap, link, data),
            Item::Comment(text) => drop(text.parse().map(|label| tap.label(&label))),
            Item::Dropped(_) => {}
        }
    }
}

fn packet(tap: &mut Tap, link: Link, bytes: &[u8]) {
    let Ok(Datagram { from, to, payload, length, .. }) = capture::datagram(link, bytes) else { return };
    assert!(payload.len() <= length);
    let Some(heard) = tap.hear(from, to, payload, length) else { return };
    assert!(!words::line(&heard, tap.flows(), length).chars().any(char::is_control));
    for (_, value) in words::fields(&heard) {
        assert!(!value.chars().any(char::is_control));
    }
    serde_json::to_string(&Row::new(&heard, tap.flows(), length)).expect("JSON");
}

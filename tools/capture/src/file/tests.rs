use proptest::prelude::*;

use super::*;
use crate::write::{Interface as Written, Pcapng};

type Found = (Option<u64>, u16, u32, Vec<u8>, Option<Direction>);

/// All of a file: its packets, its comments, what it lost, and how it ends.
fn read(bytes: &[u8]) -> (Vec<Found>, Vec<String>, u64, Option<ReadError>) {
    let (mut packets, mut comments, mut dropped) = (Vec::new(), Vec::new(), 0);
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (packets, comments, dropped, Some(error)),
    };
    loop {
        match reader.next_item() {
            Ok(Some(Item::Packet(p))) => {
                assert_eq!(p.number, packets.len() as u64 + 1);
                packets.push((p.time, p.link.0, p.length, p.data.to_vec(), p.direction));
            }
            Ok(Some(Item::Comment(text))) => comments.push(text),
            Ok(Some(Item::Dropped(n))) => dropped = n.saturating_add(dropped),
            Ok(None) => return (packets, comments, dropped, None),
            Err(error) => return (packets, comments, dropped, Some(error)),
        }
    }
}

/// A file as the writer makes it: two interfaces, some packets.
fn written() -> (Vec<u8>, Vec<Found>) {
    let (mut pcapng, mut file) = Pcapng::begin("test", "Linux", &["one".into(), "two".into()]);
    let eth = Written { name: "eth0", link: Link::ETHERNET, snap: 1 << 18, filter: "udp" };
    let (eth, bytes) = pcapng.interface(&eth);
    file.extend(bytes);
    let tun = Written { name: "tun0", link: Link::RAW, snap: 64, filter: "" };
    let (tun, bytes) = pcapng.interface(&tun);
    file.extend(bytes);
    let time = 1_800_000_000_123_456_789;
    let mut want = Vec::new();
    for (number, interface, link, direction) in
        [(0, eth, 1, Direction::Inbound), (1, tun, 101, Direction::Outbound), (2, eth, 1, Direction::Outbound)]
    {
        let data = vec![number as u8 + 7; 61 + number];
        file.extend(Pcapng::packet(interface, time + number as u64, direction, 900, &data));
        want.push((Some(time + number as u64), link, 900, data, Some(direction)));
    }
    file.extend(Pcapng::statistics(eth, time, 5, 2));
    file.extend(Pcapng::statistics(tun, time, 5, 0));
    (file, want)
}

/// A pcap file of one packet, in either byte order, with either kind of time.
fn pcap(big: bool, nanoseconds: bool, packet: &[u8]) -> Vec<u8> {
    let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let half = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let length = word(packet.len() as u32);
    let head = [&word(magic)[..], &half(2), &half(4), &word(0), &word(0), &word(65_535), &word(1)].concat();
    [&head[..], &word(1_700_000_000), &word(123_456), &length, &length, packet].concat()
}

/// A section in network order, with one interface whose times are in seconds, and one packet.
fn big_endian() -> Vec<u8> {
    let word = |n: u32| n.to_be_bytes();
    let section =
        [word(0x0a0d_0d0a), word(28), word(0x1a2b_3c4d), [0, 1, 0, 0], word(u32::MAX), word(u32::MAX), word(28)];
    // if_tsresol 0: seconds.
    let interface = [word(1), word(32), [0, 101, 0, 0], word(0), [0, 9, 0, 1], [0; 4], [0; 4], word(32)];
    let flags = [[0, 2, 0, 4], word(2), [0; 4]];
    let packet = [word(6), word(48), word(0), word(0), word(1_700_000_000), word(3), word(3), [1, 2, 3, 0]];
    [&section[..], &interface, &packet, &flags, &[word(48)]].concat().concat()
}

#[test]
fn what_is_written_is_read() {
    let (file, want) = written();
    let (packets, comments, dropped, error) = read(&file);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(packets, want);
    assert_eq!((comments, dropped), (vec!["one".to_owned(), "two".to_owned()], 2));
}

#[test]
fn both_byte_orders_and_both_kinds_of_time() {
    for (big, nanoseconds, fraction) in
        [(false, false, 123_456_000), (true, false, 123_456_000), (false, true, 123_456), (true, true, 123_456)]
    {
        let (packets, .., error) = read(&pcap(big, nanoseconds, b"abc"));
        assert!(error.is_none(), "{error:?}");
        assert_eq!(packets, [(Some(1_700_000_000_000_000_000 + fraction), 1, 3, b"abc".to_vec(), None)]);
    }
    let (packets, .., error) = read(&big_endian());
    assert!(error.is_none(), "{error:?}");
    let time = Some(1_700_000_000_000_000_000);
    assert_eq!(packets, [(time, 101, 3, vec![1, 2, 3], Some(Direction::Outbound))]);
}

/// A pipe gives a few bytes at a time.
#[test]
fn it_may_come_in_drops() {
    struct Drops<'a>(&'a [u8]);
    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(3).min(buffer.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }
    let (file, want) = written();
    for file in [file, big_endian(), pcap(false, false, b"abc")] {
        let mut reader = Reader::new(Drops(&file)).unwrap();
        let mut packets = 0;
        while let Some(item) = reader.next_item().unwrap() {
            packets += usize::from(matches!(item, Item::Packet(_)));
        }
        assert!([1, want.len()].contains(&packets));
    }
}

#[test]
fn a_file_that_is_none_is_told_from_one_cut_off() {
    assert!(matches!(read(b"").3, Some(ReadError::NoCapture { .. })));
    assert!(matches!(read(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").3, Some(ReadError::NoCapture { .. })));
    let (file, want) = written();
    for end in 8..file.len() {
        let (packets, .., error) = read(&file[..end]);
        assert_eq!(packets, want[..packets.len()], "cut at {end}");
        assert!(error.is_none() || matches!(error, Some(ReadError::Cut { .. })), "cut at {end}: {error:?}");
    }
    let cut = read(&file[..file.len() - 100]).3.unwrap().to_string();
    assert!(cut.contains("at byte "), "{cut}");
}

#[test]
fn a_block_of_nonsense_is_named_with_its_place() {
    let (mut file, _) = written();
    let at = file.len();
    // A packet of an interface that was never described.
    file.extend(Pcapng::packet(9, 0, Direction::Inbound, 3, b"abc"));
    match read(&file).3 {
        Some(ReadError::Broken { offset, .. }) => assert_eq!(offset, at as u64),
        other => panic!("{other:?}"),
    }
    // One that says that it is longer than anything.
    let mut long = pcap(false, false, b"abc");
    long[32..36].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    let long = [long, vec![0; 40 << 20]].concat();
    assert!(matches!(read(&long).3, Some(ReadError::TooLong { offset: 24 })));
}

proptest! {
    #[test]
    fn reading_is_total(noise in proptest::collection::vec(any::<u8>(), 0..600), flips in proptest::collection::vec((0..2_000usize, 0..8u32), 0..6)) {
        read(&noise);
        for mut file in [written().0, big_endian(), pcap(true, false, b"abcdef")] {
            for (at, bit) in &flips {
                let at = at % file.len();
                file[at] ^= 1u8 << bit;
            }
            read(&file);
        }
    }
}

//! Tests of [`super`].

use proptest::prelude::*;

use super::*;

fn player(orig: &str, client: &str) -> Player {
    Player { orig: orig.parse().unwrap(), client: client.parse().unwrap() }
}

fn bytes(said: Said<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    said.put(&mut out);
    out
}

#[test]
fn sdus_are_these_bytes() {
    let v4 = player("10.0.0.1:27910", "192.168.1.5:27901");
    let words = b"\x0a\0\0\x01\xc0\xa8\x01\x05\0\0\x6c\xfd\0\0\x6d\x06";
    assert_eq!(bytes(Said::Datagram(v4, b"hi")), [b"\x04", &words[..], b"hi"].concat());
    assert_eq!(bytes(Said::End(v4, 2)), [b"\x01\x02\x04", &words[..]].concat());
    assert_eq!(bytes(Said::Ask(v4)), [b"\x05\x00\x04", &words[..]].concat());
    let v6 = player("[fd00::1]:1", "[fd00::2]:258");
    let ip = |last| [&[0xfd][..], &[0; 14], &[last]].concat();
    assert_eq!(bytes(Said::Datagram(v6, b"")), [&[6][..], &ip(1), &ip(2), &[0, 0, 1, 2, 0, 0, 0, 1]].concat());
    assert_eq!(bytes(Said::Ping(258)), b"\x02\0\0\0\0\0\0\x01\x02");
    assert_eq!(bytes(Said::Pong(1)), b"\x03\0\0\0\0\0\0\0\x01");
    let piece = Piece { number: 258, place: 3, count: 4, bytes: b"x" };
    assert_eq!(bytes(Said::Piece(piece)), b"\x07\0\0\x01\x02\x03\x04x");
    assert_eq!(bytes(Said::Control(b"x")), b"\x10x");
}

#[test]
fn a_byte_stream_is_these_bytes() {
    let mut out = Vec::new();
    let v4 = player("10.0.0.1:27910", "192.168.1.5:27901");
    assert!(encapsulate(&v4, b"\xff\xff\xff\xffstatus", &mut out));
    let want = b"\0\0\0\x1a\x0a\0\0\x01\xc0\xa8\x01\x05\0\0\x6c\xfd\0\0\x6d\x06\xff\xff\xff\xffstatus";
    assert_eq!(out, want);
    assert_eq!(decapsulate(&out), Ok(Some((v4, &b"\xff\xff\xff\xffstatus"[..], out.len()))));
    assert!(!encapsulate(&player("[::1]:1", "[::1]:2"), b"", &mut out), "IPv4 only");
    assert_eq!(out.len(), want.len());
}

#[test]
fn nonsense_is_told_apart() {
    assert_eq!(Said::parse(b""), Err(Malformed::Short));
    assert_eq!(Said::parse(b"\x08"), Err(Malformed::Kind(8)));
    assert_eq!(Said::parse(b"\x07\0\0\0\0\0"), Err(Malformed::Short));
    assert_eq!(Said::parse(&[4; 16]), Err(Malformed::Port(0x0404_0404)));
    assert_eq!(Said::parse(&[6; 30]), Err(Malformed::Short));
    assert_eq!(Said::parse(&[[4].as_slice(), &[0; 15]].concat()), Err(Malformed::Short));
    assert_eq!(Said::parse(b"\x02\0\0\0\0\0\0\0\0\0"), Err(Malformed::Long));
    let end = bytes(Said::End(player("1.2.3.4:5", "6.7.8.9:10"), 1));
    assert_eq!(Said::parse(&[&end[..], b"x"].concat()), Err(Malformed::Long));
    assert_eq!(decapsulate(&15_u32.to_be_bytes()), Err(Malformed::Length(15)));
    assert_eq!(decapsulate(b"GET /index.html HTTP/1.1"), Err(Malformed::Length(0x4745_5420)));
    assert_eq!(decapsulate(b"\0\0\0"), Ok(None));
}

fn any_player() -> impl Strategy<Value = Player> {
    let v4 = |ip: u32, port| SocketAddr::from((Ipv4Addr::from(ip), port));
    let v6 = |ip: u128, port| SocketAddr::from((Ipv6Addr::from(ip | 1 << 127), port));
    let pair = (any::<bool>(), any::<(u128, u16, u128, u16)>());
    pair.prop_map(move |(short, (a, b, c, d))| match short {
        true => Player { orig: v4(a as u32, b), client: v4(c as u32, d) },
        false => Player { orig: v6(a, b), client: v6(c, d) },
    })
}

proptest! {
    #[test]
    fn what_is_put_is_read(player in any_player(), data: Vec<u8>, number: u64, reason: u8) {
        let piece = Piece { number: number as u32, place: reason, count: reason, bytes: &data };
        let all = [Said::Piece(piece), Said::Datagram(player, &data), Said::End(player, reason), Said::Ask(player), Said::Ping(number), Said::Pong(number), Said::Control(&data)];
        for said in all {
            let sdu = bytes(said);
            prop_assert_eq!(Said::parse(&sdu), Ok(said));
        }
    }

    #[test]
    fn a_stream_may_be_cut_anywhere(
        datagrams in proptest::collection::vec((any_player(), proptest::collection::vec(any::<u8>(), 0..300)), 0..8),
        cut in 1_usize..50,
    ) {
        let mut stream = Vec::new();
        let sent: Vec<_> = datagrams.iter().filter(|(player, data)| encapsulate(player, data, &mut stream)).collect();
        let (mut heard, mut buffer) = (Vec::new(), Vec::new());
        for piece in stream.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some((player, data, taken)) = decapsulate(&buffer).unwrap() {
                heard.push((player, data.to_vec()));
                buffer.drain(..taken);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(sent, heard.iter().collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Said::parse(&bytes);
        let _ = decapsulate(&bytes);
    }
}

//! The headers of forwarders' streams: what is said is read again, and bytes of version 1 that must read the same for ever.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proto::forward::{
    Answer, Broken, HEAD, LONGEST, LONGEST_PIECE, MAX_RULE, MAX_WORDS, Malformed, Opening, Pieces, Verdict, last_words,
    piece_head,
};

fn opening(bytes: &[u8]) -> Result<Opening, Malformed> {
    let length = Opening::length(*bytes.first_chunk().unwrap())?;
    assert_eq!(length, bytes.len() - HEAD);
    Opening::decode(&bytes[HEAD..])
}

fn answer(bytes: &[u8]) -> Result<Answer, Malformed> {
    let length = Answer::length(*bytes.first_chunk().unwrap())?;
    assert_eq!(length, bytes.len() - HEAD);
    Answer::decode(&bytes[HEAD..])
}

fn address() -> impl Strategy<Value = Option<SocketAddr>> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_canonical()),
    ];
    proptest::option::of((ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port)))
}

proptest! {
    #[test]
    fn an_opening_survives(client in address(), listener in address(), rule in "[ -~ä]{0,60}") {
        let said = Opening { client, listener, rule };
        let bytes = said.encode();
        prop_assert!(bytes.len() <= LONGEST);
        prop_assert_eq!(opening(&bytes), Ok(said));
    }

    #[test]
    fn an_answer_survives(verdict in proptest::sample::select(&Verdict::ALL[..]), words in "[ -~ä]{0,60}") {
        let said = Answer { verdict, words };
        prop_assert_eq!(answer(&said.encode()), Ok(said));
    }

    /// Pieces of whatever lengths, cut wherever the network cuts them.
    #[test]
    fn what_went_in_pieces_is_put_together(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..10),
        cuts in proptest::collection::vec(1usize..40, 1..40), breaks in any::<Option<u32>>(),
    ) {
        let mut wire: Vec<u8> = pieces.iter().flat_map(|piece| [&piece_head(piece.len())[..], piece].concat()).collect();
        wire.extend(breaks.iter().flat_map(|code| last_words(Broken::from_code(*code))));
        let (mut reader, mut out) = (Pieces::default(), Vec::new());
        let mut cuts = cuts.into_iter().cycle();
        while !wire.is_empty() {
            let mut part: Vec<u8> = wire.drain(..cuts.next().unwrap().min(wire.len())).collect();
            let kept = reader.strip(&mut part).unwrap();
            out.extend_from_slice(&part[..kept]);
        }
        prop_assert_eq!(out, pieces.concat());
        prop_assert_eq!(reader.broken(), breaks.map(Broken::from_code));
        prop_assert_eq!(reader.is_whole(), breaks.is_none());
    }

    #[test]
    fn any_fields_are_read_or_refused(fields in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Opening::decode(&fields);
        let _ = Answer::decode(&fields);
    }
}

#[test]
fn bytes_of_version_1_read_the_same_for_ever() {
    let said = Opening {
        client: Some("192.0.2.7:49152".parse().unwrap()),
        listener: Some("[2001:db8::1]:443".parse().unwrap()),
        rule: "web".to_owned(),
    };
    let bytes = [
        b"FW\x01\x01\x00\x24\x01\x00\x06\xc0\x00\x02\x07\xc0\x00".as_slice(),
        b"\x02\x00\x12\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb\x03\x00\x03web",
    ]
    .concat();
    assert_eq!(said.encode(), bytes);
    assert_eq!(opening(&bytes), Ok(said));
    let said = Answer { verdict: Verdict::Refused, words: "no".to_owned() };
    let bytes = b"FW\x01\x02\x00\x09\x04\x00\x01\x02\x05\x00\x02no";
    assert_eq!(said.encode(), bytes);
    assert_eq!(answer(bytes), Ok(said));
}

#[test]
fn what_is_long_is_cut_and_what_is_too_long_is_refused() {
    let said = Opening { rule: "ä".repeat(MAX_RULE), ..Opening::default() };
    assert_eq!(opening(&said.encode()).unwrap().rule, "ä".repeat(MAX_RULE / 2));
    let said = Answer { verdict: Verdict::Failed, words: "w".repeat(MAX_WORDS + 1) };
    assert_eq!(answer(&said.encode()).unwrap().words.len(), MAX_WORDS);
    assert_eq!(Opening::length(*b"FW\x01\x01\x03\xfb"), Err(Malformed::TooLong));
    assert_eq!(Opening::length(*b"FW\x01\x01\x03\xfa"), Ok(LONGEST - HEAD));
}

#[test]
fn what_is_no_header_is_refused() {
    let table: [(&[u8], Malformed); 9] = [
        (b"GET / HTTP/1.1", Malformed::Magic),
        (b"FW\x02\x01\x00\x00", Malformed::Version(2)),
        (b"FW\x01\x02\x00\x00", Malformed::Kind),
        (b"FW\x01\x01\x00\x02\x01\x00", Malformed::Field),
        (b"FW\x01\x01\x00\x04\x01\x00\x02\x00", Malformed::Field),
        (b"FW\x01\x01\x00\x08\x01\x00\x05\x7f\x00\x00\x01\x00", Malformed::Field),
        (b"FW\x01\x01\x00\x08\x03\x00\x01a\x03\x00\x01b", Malformed::Field),
        (b"FW\x01\x01\x00\x04\x03\x00\x01\x1b", Malformed::Field),
        (b"FW\x01\x01\x00\x03\x80\x00\x00", Malformed::Field),
    ];
    for (bytes, want) in table {
        let length = Opening::length(*bytes.first_chunk().unwrap());
        let read = length.and_then(|length| Opening::decode(&bytes[HEAD..HEAD + length]));
        assert_eq!(read, Err(want), "{bytes:x?}");
    }
    assert_eq!(answer(b"FW\x01\x02\x00\x00"), Err(Malformed::Field), "an answer without a verdict");
    assert_eq!(opening(b"FW\x01\x01\x00\x03\x7f\x00\x00"), Ok(Opening::default()), "a field of a later version");
    assert_eq!(answer(b"FW\x01\x02\x00\x04\x04\x00\x01\xc8").unwrap().verdict, Verdict::Failed, "a later refusal");
    assert_eq!(answer(b"FW\x01\x02\x00\x04\x04\x00\x01\x00"), Err(Malformed::Field));
}

#[test]
fn reasons_keep_their_numbers() {
    for code in 0..40 {
        assert_eq!(Broken::from_code(code).code(), code);
    }
    assert_eq!(Broken::from_code(1), Broken::Reset);
    assert_eq!(Broken::from_code(77), Broken::Other(77));
}

#[test]
fn what_is_no_row_of_pieces_is_refused() {
    let strip = |bytes: &[u8]| Pieces::default().strip(&mut bytes.to_vec());
    assert_eq!(strip(&piece_head(LONGEST_PIECE)), Ok(0));
    assert_eq!(strip(b"\x00\x10\x00\x01"), Err(Malformed::TooLong));
    assert_eq!(strip(b"\0\0\0\0\0\0\0\x01\0\0\0\x01"), Err(Malformed::Field), "words behind the last");
    assert_eq!(last_words(Broken::Reset), *b"\0\0\0\0\0\0\0\x01");
    let mut cut = Pieces::default();
    assert_eq!(cut.strip(&mut b"\0\0\0\x02x".to_vec()), Ok(1));
    assert!(!cut.is_whole());
}

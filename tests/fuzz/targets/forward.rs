//! Any bytes as a forwarder's header: no panic, nothing longer than it may be, and what is read says the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::forward::datagram::Message;
use proto::forward::{Answer, HEAD, LONGEST, Opening, Pieces};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    pieces(bytes);
    datagram(bytes);
    // The fuzzer need not find the magic.
    for kind in [1, 2] {
        let fields = &bytes[..bytes.len().min(LONGEST - HEAD)];
        let length = (fields.len() as u16).to_be_bytes();
        read(&[b"FW\x01", &[kind][..], &length, fields].concat());
    }
});

/// What is heard can be said.
fn datagram(bytes: &[u8]) {
    if let Some(message) = Message::decode(bytes) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(Message::decode(&again), Some(message));
    }
}

/// However they are cut, the same comes out of pieces.
fn pieces(bytes: &[u8]) {
    let (mut whole, mut parts) = (Pieces::default(), Pieces::default());
    let mut all = bytes.to_vec();
    let stripped = whole.strip(&mut all).map(|kept| all[..kept].to_vec());
    let mut out = Ok(Vec::new());
    for part in bytes.chunks(3) {
        let mut part = part.to_vec();
        match (&mut out, parts.strip(&mut part)) {
            (Ok(out), Ok(kept)) => out.extend_from_slice(&part[..kept]),
            (Ok(_), Err(error)) => out = Err(error),
            (Err(_), _) => break,
        }
    }
    assert_eq!(stripped, out);
    if stripped.is_ok() {
        assert_eq!((whole.broken(), whole.is_whole()), (parts.broken(), parts.is_whole()));
    }
}

fn read(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return };
    if let Some(fields) = Opening::length(*head).ok().and_then(|length| rest.get(..length))
        && let Ok(opening) = Opening::decode(fields)
    {
        let again = opening.encode();
        assert!(again.len() <= LONGEST);
        assert_eq!(Opening::decode(&again[HEAD..]), Ok(opening));
    }
    if let Some(fields) = Answer::length(*head).ok().and_then(|length| rest.get(..length))
        && let Ok(answer) = Answer::decode(fields)
    {
        let again = answer.encode();
        assert!(again.len() <= LONGEST);
        assert_eq!(Answer::decode(&again[HEAD..]), Ok(answer));
    }
}

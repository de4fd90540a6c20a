//! Any bytes as a datagram of a rendezvous: no panic, and what is read says the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::rendezvous::{DATAGRAM, Envelope, SessionKey};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // The fuzzer guesses neither the first six bytes nor a length with room for a seal behind it.
    let Some((kind, fields)) = bytes.split_first() else { return };
    let fields = &fields[..fields.len().min(DATAGRAM - 58)];
    let mut whole = [b"\0Flow\x01", &[*kind, 0][..], &[7; 32]].concat();
    whole.extend(u16::try_from(fields.len()).unwrap_or(u16::MAX).to_be_bytes());
    whole.extend(fields);
    whole.extend([0; 16]);
    read(&whole);
});

fn read(bytes: &[u8]) {
    let Ok(envelope) = Envelope::read(bytes) else { return };
    let key = SessionKey::new("session", b"key");
    assert!(envelope.of(&key).is_err(), "the fuzzer has made a seal");
    let Ok(said) = envelope.unsealed() else { return };
    // A longer form of the same, with fields of later versions, may say more than one datagram of ours holds; a shorter one never.
    let again = envelope.head.encode(&key, &said);
    let envelope = Envelope::read(&again).expect("what was encoded");
    assert_eq!(envelope.of(&key), Ok(said));
}

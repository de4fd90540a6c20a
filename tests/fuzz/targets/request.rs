//! Any bytes as a request: no panic, and what is read says the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::shim::{DATAGRAM, Peek, Request};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // The fuzzer does not guess a header's first six bytes.
    read(&[b"echo\0Flow\x01\x01", bytes].concat());
});

fn read(bytes: &[u8]) {
    peek(bytes);
    let Ok(request) = Request::decode(bytes) else { return };
    if matches!(request, Request::OtherVersion { .. }) {
        return;
    }
    assert_eq!(Request::decode(&request.encode()).as_ref(), Ok(&request));
}

/// What a loaded server peeks at is what it would decode.
fn peek(bytes: &[u8]) {
    let mut padded = bytes.to_vec();
    padded.resize(DATAGRAM, 0);
    let peek = Peek::read(&padded);
    if let Ok(Request::Extended(name, extension)) = Request::decode(&padded) {
        let want = Peek { name: name.as_str().as_bytes(), client: extension.client, cookie: &extension.cookie };
        assert_eq!(peek, Some(want));
    }
}

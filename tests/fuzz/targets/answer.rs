//! Any bytes as an answer to a name: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::Name;
use proto::shim::Answer;

fuzz_target!(|bytes: &[u8]| {
    let name = Name::new("echo").expect("a name");
    let _ = Answer::decode(bytes, &name);
    // The fuzzer does not guess the name and a header's first six bytes.
    let _ = Answer::decode(&[b"echo\0Flow\x01\x02", bytes].concat(), &name);
});

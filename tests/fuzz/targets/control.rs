//! Any bytes as a control datagram: no panic, and what is read says the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::shim::Control;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // The fuzzer does not guess the first six bytes.
    read(&[b"\0Flow\x01", bytes].concat());
});

fn read(bytes: &[u8]) {
    if let Ok(control) = Control::decode(bytes) {
        assert_eq!(Control::decode(&control.encode()), Ok(control));
    }
}

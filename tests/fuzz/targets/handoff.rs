//! Any bytes as a packet on the hand-over socket, either way: no panic, and what is read says the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::handoff::{ToDaemon, ToProgram};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = ToDaemon::decode(bytes) {
        assert_eq!(ToDaemon::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = ToProgram::decode(bytes) {
        assert_eq!(ToProgram::decode(&message.encode()), Ok(message));
    }
});

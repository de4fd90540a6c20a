//! Any bytes as a name: what is taken keeps the rules of names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::Name;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(name) = Name::from_bytes(bytes) {
        assert_eq!(name.as_str().as_bytes(), bytes);
        assert!((1..=Name::MAX).contains(&bytes.len()) && !bytes.contains(&0));
    }
});

//! Any text as a forwarder's file of rules, as lines and as TOML: no panic, faults have a place in the text, and an end that
//! is printed is the same end again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portfwd::said::file::File;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in ["rules", "rules.toml"] {
        match File::parse(Path::new(name), text) {
            Ok(file) => {
                for rule in file.rules.iter().take(16) {
                    for end in rule.targets.iter().chain([&rule.listen]) {
                        assert_eq!(end.to_string().parse().as_ref(), Ok(end));
                    }
                }
            }
            Err(fault) => assert!((1..=text.matches('\n').count() + 1).contains(&fault.line) && fault.column >= 1),
        }
    }
});

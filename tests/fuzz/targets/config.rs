//! Any text as an irmd.toml: no panic, and what is read can be written and read again.
#![no_main]

use irmd::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = Config::parse(text) {
        let written = config.to_toml().expect("what was read can be written");
        let again = Config::parse(&written).expect("what was written can be read");
        assert_eq!(again.to_toml().as_ref(), Ok(&written));
    }
});

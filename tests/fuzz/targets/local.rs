//! A local flow's machine with a peer that says anything and a program that does anything: no panic, no growth beyond its
//! bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: &[u8]| transport::play_local(story));

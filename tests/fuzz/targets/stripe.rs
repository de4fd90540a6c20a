//! Any bytes on tracks: as frames, as a request for a track, as the seed's datagrams, as a file that is sent, as a configuration. No
//! panic, and what is read says the same again; a group of either kind that hears them keeps no more than its window.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use tcpstripe::machine::play;
use tcpstripe::said::classic::Framing;
use tcpstripe::said::frame::Frame;
use tcpstripe::said::join::Join;
use tcpstripe::said::{config, file};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((frame, len))) = Frame::decode(bytes) {
        assert_eq!(frame.encode()[..], bytes[..len]);
    }
    if let Ok(join) = Join::decode(bytes) {
        assert_eq!(Join::decode(&join.encode()), Ok(join));
    }
    for framing in [Framing::Short, Framing::Long] {
        if let Some(header) = framing.decode(bytes) {
            assert_eq!(framing.encode(header).as_deref(), Some(&bytes[..framing.header()]));
        }
    }
    if let Some((fixed, rest)) = bytes.split_first_chunk() {
        let _ = file::name_len(*fixed);
        let _ = file::Offer::decode(rest);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = config::parse(text);
    }
    play(Instant::now(), bytes);
});

//! Any bytes as what gameproxies say to each other, as an offer, as the byte stream, as a configuration: no panic; faults have a
//! place in the text; what is read is written as the same bytes, and rules as the same rules.
#![no_main]

use std::path::Path;

use gameproxy::machine::pieces::Pieces;
use gameproxy::said::file::File;
use gameproxy::said::frame::{Said, decapsulate, encapsulate};
use gameproxy::said::grammar;
use gameproxy::said::offer::{About, Offer};
use gameproxy::said::probe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 6 {
        0 => {
            if let Ok(said) = Said::parse(bytes) {
                if let Said::Piece(piece) = said {
                    let mut pieces = Pieces::default();
                    let whole = pieces.take(&piece);
                    assert!(whole.is_none_or(|whole| piece.count == 1 && whole == piece.bytes));
                }
                let mut again = Vec::new();
                said.put(&mut again);
                // Addresses of IPv4 may come as IPv6.
                assert_eq!(Said::parse(&again), Ok(said));
            }
        }
        1 => {
            if let Ok(about) = About::parse(bytes) {
                let mut again = Vec::new();
                about.put(&mut again);
                assert_eq!(again, bytes);
            }
        }
        2 => {
            if let Ok(offer) = Offer::parse(bytes) {
                assert_eq!(offer.bytes(), bytes);
                let front = offer.front(&[]);
                let _ = front.lets(([10, 0, 0, 1], 27901).into());
            }
        }
        3 => {
            if let Ok(Some((player, data, length))) = decapsulate(bytes) {
                let mut again = Vec::new();
                assert!(encapsulate(&player, data, &mut again));
                assert_eq!(again, bytes[..length]);
            }
        }
        4 => {
            let pong = probe::answer(bytes, 1);
            assert!(pong.is_none() || bytes.len() == probe::LENGTH);
            let _ = probe::answered(bytes);
        }
        _ => text(bytes),
    }
});

fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in ["rules", "rules.toml"] {
        match File::parse(Path::new(name), text) {
            Ok(file) => drop(file.doubts()),
            Err(fault) => assert!((1..=text.matches('\n').count() + 1).contains(&fault.line) && fault.column >= 1),
        }
    }
    if let Ok((rules, places)) = grammar::parse(text) {
        assert_eq!(rules.redirects.len(), places.len());
        let entries = rules.access.iter().map(|entry| format!("global {}\n", grammar::write_access(entry)));
        let again: String = entries.chain(rules.redirects.iter().map(|one| grammar::write_redirect(one) + "\n")).collect();
        assert_eq!(grammar::parse(&again).map(|(rules, _)| rules), Ok(rules));
    }
}

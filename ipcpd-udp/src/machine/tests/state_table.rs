//! The transition table: as it stands in the documentation, and as it is lived.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::table;

const BEGIN: &str = "<!-- state table: generated, UPDATE_SNAPSHOTS=1 cargo test -p ipcpd-udp -->\n";
const END: &str = "<!-- end of state table -->\n";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn update() -> bool {
    std::env::var_os("UPDATE_SNAPSHOTS").is_some()
}

#[test]
fn the_table_is_the_one_under_review() {
    let path = root("src/machine/tests/states.txt");
    let text: String = table::TABLE
        .iter()
        .map(|(from, cause, to)| format!("{:<10} --{}--> {}\n", from.as_str(), cause.as_str(), to.as_str()))
        .collect();
    if update() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE_SNAPSHOTS=1 rewrites it");
}

#[test]
fn the_documentation_has_the_table() {
    let path = root("../docs/shim-udp.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let span = |text: &str| {
        let begin = text.find(BEGIN).expect("the marker of the table's begin") + BEGIN.len();
        begin..begin + text[begin..].find(END).expect("the marker of its end")
    };
    if update() {
        text.replace_range(span(&text), &table::text());
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text[span(&text)], table::text(), "UPDATE_SNAPSHOTS=1 rewrites it");
}

#[test]
fn no_transition_stands_twice() {
    let once: BTreeSet<_> = table::TABLE.iter().collect();
    assert_eq!(once.len(), table::TABLE.len());
}

#[test]
fn every_transition_of_the_table_happens() {
    // That no other happens, every change of a state checks.
    let mut seen = super::transitions::directed();
    for seed in 1000..1060 {
        seen.extend(super::lives::life(seed).unwrap());
    }
    let missing: Vec<_> = table::TABLE.iter().filter(|row| !seen.contains(row)).collect();
    assert!(missing.is_empty(), "never seen: {missing:#?}");
}

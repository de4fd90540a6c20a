//! The transition table: as it stands in the documentation, and as it is lived.

use std::collections::BTreeSet;

use super::{snapshot, table};

#[test]
fn the_table_is_the_one_under_review() {
    let text: String = table::TABLE
        .iter()
        .map(|(from, cause, to)| format!("{:<10} --{}--> {}\n", from.as_str(), cause.as_str(), to.as_str()))
        .collect();
    snapshot::file_is("src/machine/tests/states.txt", &text);
}

#[test]
fn the_documentation_has_the_table() {
    snapshot::page_has("../docs/shim-udp.md", "state table", &table::text());
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

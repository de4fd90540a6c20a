//! docs/security.md promises tests: they exist, and every row has one or says that it is a limit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// The names of all functions of the sources.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// The rows of the tables of attacks: their cells.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let mut attacks = false;
    let mut rows = Vec::new();
    for line in page.lines() {
        attacks = line == "| tries | what happens | tests |" || attacks && line.starts_with('|');
        if attacks && line != "| tries | what happens | tests |" && !line.starts_with("|---") {
            rows.push(line.trim_matches('|').split('|').map(str::trim).collect());
        }
    }
    rows
}

#[test]
fn every_promise_has_a_test_that_exists() {
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut known = BTreeSet::new();
    functions(&root(), &mut known);
    let rows = rows(&page);
    assert!(rows.len() > 50, "the page was not read: {} rows", rows.len());
    let mut named = 0;
    for cells in rows {
        let [tries, happens, tests] = cells[..] else { panic!("not three cells: {cells:?}") };
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        let limit = happens.to_lowercase().contains("**limit**");
        assert!(limit || !names.is_empty(), "{tries:?} has no test and says nothing of a limit");
        for name in names {
            assert!(known.contains(name), "{tries:?} names {name}, which is no function of the sources");
            named += 1;
        }
    }
    assert!(named > 60, "{named} tests are named");
}

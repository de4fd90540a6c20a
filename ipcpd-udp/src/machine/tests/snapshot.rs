//! Texts that tests compare; UPDATE_SNAPSHOTS=1 rewrites them.

use std::path::{Path, PathBuf};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn update() -> bool {
    std::env::var_os("UPDATE_SNAPSHOTS").is_some()
}

/// The file, below this crate, is the text.
pub(super) fn file_is(file: &str, text: &str) {
    let path = path(file);
    if update() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE_SNAPSHOTS=1 rewrites {file}");
}

/// The page has the text between the lines `<!-- what: generated, … -->` and `<!-- end of what -->`.
pub(super) fn page_has(page: &str, what: &str, text: &str) {
    // One page may have several texts, checked at the same time.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = path(page);
    let mut found = std::fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- {what}: generated, UPDATE_SNAPSHOTS=1 cargo test -p ipcpd-udp -->\n");
    let end = format!("<!-- end of {what} -->\n");
    let span = |found: &str| {
        let begin = found.find(&begin).expect("the marker of the begin") + begin.len();
        begin..begin + found[begin..].find(&end).expect("the marker of the end")
    };
    if update() {
        found.replace_range(span(&found), text);
        std::fs::write(&path, &found).unwrap();
    }
    assert_eq!(found[span(&found)], *text, "UPDATE_SNAPSHOTS=1 rewrites {page}");
}

//! Standard output and error. A reader that goes away (`irm flow list | head -1`) is no panic.

use std::io::Write;

use serde::Serialize;

use super::Fault;
use crate::cli::Listing;

/// A listing: its rows as JSON, or as text.
pub(super) fn listing<T: Serialize + ?Sized>(
    how: Listing,
    rows: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Fault> {
    if !how.json {
        return raw(text(rows).as_bytes());
    }
    let mut json = serde_json::to_vec_pretty(rows).map_err(|error| Fault::Unable(format!("cannot print: {error}")))?;
    json.push(b'\n');
    raw(&json)
}

/// JSON on one line.
pub(super) fn line<T: Serialize + ?Sized>(what: &T) -> Result<(), Fault> {
    let mut json = serde_json::to_vec(what).map_err(|error| Fault::Unable(format!("cannot print: {error}")))?;
    json.push(b'\n');
    raw(&json)
}

/// Bytes as they are.
pub(super) fn raw(bytes: &[u8]) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|_| Fault::Unread)
}

/// One sentence on standard error.
pub(super) fn error(text: &str) {
    // Nothing is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "irm: {text}");
}

/// What is going on, on standard error: standard output may be a capture.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

//! Standard output and error. A reader that goes away (`irm flow list | head -1`) is no panic.

use std::io::{self, Write};

use serde::Serialize;

use super::Fault;
use crate::cli::Listing;

/// A listing: its rows as JSON, or as text.
pub(super) fn listing<T: Serialize + ?Sized>(
    how: Listing,
    rows: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Fault> {
    if how.json { json(rows) } else { raw(text(rows).as_bytes()) }
}

/// JSON, a line for each value.
pub(super) fn json<T: Serialize + ?Sized>(rows: &T) -> Result<(), Fault> {
    written(|out| tool::write_json_pretty(&mut *out, rows).and_then(|()| out.write_all(b"\n")))
}

/// JSON of what may be very many: an array, a line for each row.
pub(super) fn rows<T: Serialize>(rows: &[T]) -> Result<(), Fault> {
    written(|out| tool::write_json_rows(&mut *out, rows).and_then(|()| out.write_all(b"\n")))
}

/// JSON on one line.
pub(super) fn line<T: Serialize + ?Sized>(what: &T) -> Result<(), Fault> {
    written(|out| tool::write_json(&mut *out, what).and_then(|()| out.write_all(b"\n")))
}

/// Bytes as they are.
pub(super) fn raw(bytes: &[u8]) -> Result<(), Fault> {
    written(|out| out.write_all(bytes))
}

fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    write(&mut out).and_then(|()| out.flush()).map_err(|_| Fault::Unread)
}

/// One sentence on standard error.
pub(super) fn error(text: &str) {
    // Nothing is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "irm: {text}");
}

/// What is going on, on standard error: standard output may be a capture.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

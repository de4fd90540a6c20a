//! Results on standard output, what went wrong on standard error.

use std::io::{ErrorKind, Write as _};

use crate::machine::table::printable;

/// Prints a result. A reader that has gone away, as `head` does, had enough.
pub fn text(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says in one line what went wrong.
pub fn error(program: &str, what: &str) {
    // Nobody is left to be told that nobody can be told.
    let _ = writeln!(std::io::stderr().lock(), "{program}: {}", printable(what.trim_end()));
}

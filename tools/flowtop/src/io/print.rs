//! Standard output and error, without a panic where they are closed.

use std::io::Write as _;

use crate::machine::text::printable;

/// Text on standard output; whether it could be written.
pub(super) fn text(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// One sentence on standard error.
pub(super) fn error(text: &str) {
    // Nothing is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "flowtop: {}", printable(text));
}

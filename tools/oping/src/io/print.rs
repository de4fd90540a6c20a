//! Standard output and error. A reader that goes away (`oping echo | head -3`) is no panic.

use std::io::Write;

/// Text; `false` when nobody reads it.
pub(super) fn text(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// A line.
pub(super) fn line(line: &str) -> bool {
    text(&format!("{line}\n"))
}

/// One sentence on standard error.
pub(super) fn error(text: &str) {
    // Nothing is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "oping: {}", crate::machine::text::printable(text));
}

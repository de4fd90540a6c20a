//! Standard output and error. A reader that goes away (`flowcat echo | head -3`) is no panic.

use std::io::Write;

/// Text; `false` when nobody reads it.
pub(super) fn text(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// One sentence on standard error.
pub(super) fn error(text: &str) {
    // Nothing is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "flowcat: {}", crate::machine::text::printable(text));
}

/// How much went which way.
pub(super) fn progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

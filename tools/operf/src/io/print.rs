//! Standard output and error. A reader that goes away is no panic.

use std::io::Write;

use serde::Serialize;

/// Text; `false` when nobody reads it.
pub(crate) fn text(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// A line.
pub(crate) fn line(line: &str) -> bool {
    text(&format!("{line}\n"))
}

/// An object.
pub(crate) fn json(value: &impl Serialize) -> bool {
    serde_json::to_string_pretty(value).is_ok_and(|json| line(&json))
}

/// One sentence on standard error.
pub(crate) fn error(text: &str) {
    // Nothing is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "operf: {text}");
}

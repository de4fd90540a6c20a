//! Where flowtop runs: the host's name, the user's terminal and wishes.

use std::io::IsTerminal as _;

use crate::machine::view::Theme;

/// The host's own name.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What the user's environment says of colours and characters.
pub(super) fn theme() -> Theme {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
    let unicode = locale.contains("utf-8") || locale.contains("utf8");
    Theme { colours: set("NO_COLOR").is_none(), unicode }
}

/// Whether standard output is a terminal on which a cursor can be moved.
pub(super) fn is_terminal() -> bool {
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !dumb
}

/// Columns and lines of the terminal that standard output is.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

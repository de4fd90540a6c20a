//! What keys do: at the foot of the screen, in full, and in dialogs.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Theme, pieces, put, put_at};
use crate::machine::order::Column;
use crate::machine::screen::{Dialog, Pane, Screen};

const LIST: [(&str, &str); 8] = [
    ("?", "help"),
    ("/", "filter"),
    ("s", "sort"),
    ("Enter", "one flow"),
    ("r", "refusals"),
    ("k", "end"),
    ("p", "pause"),
    ("q", "quit"),
];
const ONE: [(&str, &str); 5] =
    [("Esc", "back"), ("Up/Down", "other flow"), ("PgUp/PgDn", "history"), ("k", "end"), ("?", "help")];
const TEXT: [(&str, &str); 3] = [("Esc", "back"), ("Up/Down", "scroll"), ("?", "help")];

const HELP: [(&str, &str); 17] = [
    ("Up Down PgUp PgDn Home End", "move; the cursor stays on its flow"),
    ("Enter", "one flow: its last minute, its history"),
    ("r", "what was refused, and why"),
    ("/  F4", "only flows with all these words: name, pid, address…"),
    ("Esc", "back; in the list all flows again, then quit"),
    ("s  F6", "choose what to sort by"),
    ("<  >", "sort by the column before, the column after"),
    ("I", "the other way round"),
    ("k  F9", "end the flow, after asking"),
    ("p", "pause, and go on"),
    ("+  -", "ask irmd less often, more often"),
    ("?  h  F1", "this help, and back"),
    ("q  F10  Ctrl-C", "back or quit, quit"),
    ("", ""),
    ("S", "A allocated, P pending, E ending"),
    ("QOS", "raw, msg (message), str (stream)"),
    ("RATE", "the last seconds, both ways, each row on its scale"),
];

/// Draws the last line: a question, a sentence, or keys.
pub(super) fn draw(screen: &Screen, theme: &Theme, cells: &mut Buffer, area: Rect) {
    match (&screen.dialog, screen.sentence()) {
        (Some(Dialog::Filter(_)), _) => {
            let end = pieces(
                cells,
                area,
                0,
                &[("Filter: ".to_owned(), theme.both()), (screen.filter.clone(), theme.strong())],
            );
            let end = put_at(cells, area, (end, 0), "_", theme.strong());
            put_at(cells, area, (end + 2, 0), "Enter keep  Esc as before  Ctrl-U empty", theme.dim());
        }
        (Some(Dialog::End(_, words)), _) => {
            // The answer is to be seen however long the question is.
            let keys = "  y/n";
            let room = usize::from(area.width).saturating_sub(keys.len());
            let words = crate::machine::text::cut(words, room);
            pieces(cells, area, 0, &[(words, theme.bad()), (keys.to_owned(), theme.strong())]);
        }
        (Some(Dialog::Sort(_)), _) => keys(&[("Enter", "sort by it"), ("Esc", "as before")], theme, cells, area),
        (None, Some(sentence)) => drop(put(cells, area, 0, sentence, theme.both())),
        (None, None) => match screen.pane {
            Pane::List => keys(&LIST, theme, cells, area),
            Pane::Flow(_) => keys(&ONE, theme, cells, area),
            Pane::Refusals | Pane::Help => keys(&TEXT, theme, cells, area),
        },
    }
}

fn keys(keys: &[(&str, &str)], theme: &Theme, cells: &mut Buffer, area: Rect) {
    let mut x = 0;
    for (key, what) in keys {
        if usize::from(x) + key.len() + what.len() + 1 > usize::from(area.width) {
            return;
        }
        x = put_at(cells, area, (x, 0), key, theme.strong());
        x = put_at(cells, area, (x + 1, 0), what, theme.dim()) + 2;
    }
}

/// Draws the page of keys.
pub(super) fn help(screen: &Screen, theme: &Theme, cells: &mut Buffer, area: Rect) {
    cells.set_style(Rect { height: 1, ..area }, theme.head());
    put(cells, area, 0, "KEYS", theme.head());
    let room = usize::from(area.height.saturating_sub(1));
    let first = screen.scroll.min(HELP.len().saturating_sub(room));
    let wide = if area.width >= 70 { 28 } else { 16 };
    for (line, (key, what)) in HELP.iter().skip(first).take(room).enumerate() {
        let at = line as u16 + 1;
        put_at(cells, area, (0, at), &crate::machine::text::cut(key, usize::from(wide) - 1), theme.strong());
        put_at(cells, area, (wide, at), what, Style::default());
    }
}

/// Draws what can be sorted by, over the body's left side.
pub(super) fn sort_menu(at: usize, theme: &Theme, cells: &mut Buffer, body: Rect) {
    const WIDE: u16 = 14;
    let area = Rect { width: WIDE.min(body.width), ..body };
    let room = usize::from(area.height.saturating_sub(1));
    cells.set_style(area, Style::reset());
    put(cells, area, 0, "Sort by       ", theme.sorted());
    let first = (at + 1).saturating_sub(room);
    for line in 0..area.height.saturating_sub(1) {
        let text = Column::ALL.get(first + usize::from(line)).map_or("", |column| column.shape().word);
        let style = if first + usize::from(line) == at { theme.cursor() } else { Style::default() };
        put(cells, area, line + 1, &format!("{text:<14}"), style);
    }
}

//! What was refused, by reason, and the latest in words.

use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Theme, put, put_at};
use crate::machine::screen::Screen;
use crate::machine::text::{age, cut, grouped};

/// Lines for reasons, at most.
const REASONS: usize = 6;

/// Draws the pane.
pub(super) fn draw(screen: &Screen, now: Instant, theme: &Theme, cells: &mut Buffer, area: Rect) {
    cells.set_style(Rect { height: 1, ..area }, theme.head());
    put(cells, area, 0, "REFUSALS since irmd's start, by reason, and the latest", theme.head());
    let events = &screen.events;
    let reasons = &screen.host.refusals;
    let mut line = 1;
    for (reason, count) in reasons.iter().take(REASONS) {
        put_at(cells, area, (0, line), &format!("{:>9}", grouped(*count)), theme.bad());
        put_at(cells, area, (11, line), reason, Style::default());
        line += 1;
    }
    if let Some(more) = reasons.len().checked_sub(REASONS + 1) {
        put_at(cells, area, (11, line), &format!("and {} other reasons", more + 1), theme.dim());
        line += 1;
    }
    if events.missed() > 0 {
        put_at(cells, area, (0, line), &format!("{:>9}", grouped(events.missed())), theme.bad());
        put_at(cells, area, (11, line), "events were missed: there were too many at once", theme.dim());
        line += 1;
    }
    let heads = Rect { y: area.y + line.min(area.height.saturating_sub(1)), height: 1, ..area };
    cells.set_style(heads, theme.head());
    let [age_at, name_at, who_at, why_at] = columns(area.width);
    for (x, head) in [(age_at, "   AGE"), (name_at, "NAME"), (who_at, "ASKED BY"), (why_at, "WHY")] {
        put_at(cells, heads, (x, 0), head, theme.head());
    }
    let rows = Rect { y: area.y + line + 1, height: area.height.saturating_sub(line + 1), ..area };
    if events.refusals().len() == 0 {
        put(cells, rows, 1, "nothing was refused", theme.dim());
        return;
    }
    let first = screen.scroll.min(events.refusals().len().saturating_sub(usize::from(rows.height)));
    for (line, (at, event)) in events.refusals().skip(first).take(usize::from(rows.height)).enumerate() {
        let line = line as u16;
        let since = u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        put_at(cells, rows, (age_at, line), &format!("{:>6}", age(since)), theme.dim());
        let field = |text: &str, from: u16, to: u16| cut(text, usize::from(to - from - 1));
        put_at(cells, rows, (name_at, line), &field(&event.name, name_at, who_at), theme.strong());
        put_at(cells, rows, (who_at, line), &field(&event.asker, who_at, why_at), Style::default());
        let end = put_at(cells, rows, (why_at, line), &event.reason, theme.bad());
        if !event.words.is_empty() {
            put_at(cells, rows, (end, line), &format!(": {}", event.words), Style::default());
        }
    }
}

fn columns(width: u16) -> [u16; 4] {
    let name = if width >= 100 { 20 } else { 12 };
    let who = if width >= 100 { 22 } else { 15 };
    [0, 7, 7 + name, 7 + name + who]
}

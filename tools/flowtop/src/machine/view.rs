//! The screen as cells.

use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::screen::{Dialog, Pane, Screen};
use super::text::{cut, printable};

mod footer;
mod graph;
mod header;
mod list;
mod one;
mod refusals;
mod theme;

pub use theme::Theme;

/// The least window that anything is shown in.
pub const LEAST: (u16, u16) = (40, 10);

/// Lines of the header, and the line of column heads.
const HEADER: u16 = 4;
/// Lines at the foot.
const FOOTER: u16 = 1;

/// How many rows of flows fit into a window of so many lines.
pub fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(HEADER + 1 + FOOTER).max(1))
}

/// Draws the screen.
pub fn draw(screen: &Screen, now: Instant, theme: &Theme, cells: &mut Buffer) {
    let area = *cells.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = format!("window too small: {}x{}, flowtop needs {}x{}", area.width, area.height, LEAST.0, LEAST.1);
        put(cells, area, 0, &words, Style::default());
    } else {
        draw_panes(screen, now, theme, cells, area);
    }
    if !theme.unicode {
        for cell in cells.content.iter_mut().filter(|cell| !cell.symbol().is_ascii()) {
            cell.set_symbol(Theme::ascii(cell.symbol()));
        }
    }
}

fn draw_panes(screen: &Screen, now: Instant, theme: &Theme, cells: &mut Buffer, area: Rect) {
    header::draw(screen, theme, cells, Rect { height: HEADER, ..area });
    let body = Rect { y: area.y + HEADER, height: area.height - HEADER - FOOTER, ..area };
    match screen.pane {
        Pane::List => list::draw(screen, now, theme, cells, body),
        Pane::Flow(id) => one::draw(screen, id, now, theme, cells, body),
        Pane::Refusals => refusals::draw(screen, now, theme, cells, body),
        Pane::Help => footer::help(screen, theme, cells, body),
    }
    if let Some(Dialog::Sort(at)) = screen.dialog {
        footer::sort_menu(at, theme, cells, body);
    }
    footer::draw(screen, theme, cells, Rect { y: area.bottom() - FOOTER, height: FOOTER, ..area });
}

/// Writes a line of an area, as much as fits; where it ended.
fn put(cells: &mut Buffer, area: Rect, line: u16, text: &str, style: Style) -> u16 {
    put_at(cells, area, (0, line), text, style)
}

/// The same from a column on.
fn put_at(cells: &mut Buffer, area: Rect, (x, y): (u16, u16), text: &str, style: Style) -> u16 {
    if y >= area.height || x >= area.width {
        return x;
    }
    let wide = area.width - x;
    let text = cut(text, usize::from(wide));
    let (end, _) = cells.set_stringn(area.x + x, area.y + y, text, usize::from(wide), style);
    end - area.x
}

/// Pieces of a line, one after the other.
fn pieces(cells: &mut Buffer, area: Rect, line: u16, parts: &[(String, Style)]) -> u16 {
    parts.iter().fold(0, |x, (text, style)| put_at(cells, area, (x, line), text, *style))
}

/// The cells as text, a line for each row, without blanks at its end.
pub fn text(cells: &Buffer) -> String {
    let mut out = String::new();
    for line in cells.content().chunks(usize::from(cells.area().width.max(1))) {
        let mut row = String::new();
        let mut covered = 0;
        for cell in line {
            // The second column of a wide character is no blank.
            if covered > 0 {
                covered -= 1;
                continue;
            }
            covered = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
            row.push_str(cell.symbol());
        }
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}

/// A sentence of irmd's or of the system's, safe on a terminal.
fn safe(text: &str) -> String {
    printable(text)
}

//! A screen as a picture (SVG 1.1), as a terminal with a dark ground would show it.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// A cell in pixels, and where letters stand in it.
const WIDE: f32 = 8.0;
const HIGH: f32 = 17.0;
const BASE: f32 = 13.0;
/// Around the screen.
const EDGE: f32 = 12.0;
const GROUND: &str = "#1d2026";
const INK: &str = "#d5d8dc";
const FONT: &str = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace";

/// The screen as a picture.
pub fn picture(cells: &Buffer) -> String {
    let (columns, lines) = (cells.area().width, cells.area().height);
    let (wide, high) = (f32::from(columns) * WIDE + 2.0 * EDGE, f32::from(lines) * HIGH + 2.0 * EDGE);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" width=\"{wide}\" height=\"{high}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{GROUND}\"/>\n\
         <g font-family=\"{FONT}\" font-size=\"13.3\" xml:space=\"preserve\">"
    );
    for (line, row) in cells.content().chunks(usize::from(columns.max(1))).enumerate() {
        let top = EDGE + line as f32 * HIGH;
        let mut from = 0;
        while from < row.len() {
            let alike = row[from..].iter().take_while(|cell| same(cell, &row[from])).count();
            run(&mut out, &row[from..from + alike], EDGE + from as f32 * WIDE, top);
            from += alike;
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn same(a: &Cell, b: &Cell) -> bool {
    (a.fg, a.bg, a.modifier, level(a).is_some()) == (b.fg, b.bg, b.modifier, level(b).is_some())
}

/// Eighths that a bar fills; fonts draw these characters with gaps between them.
fn level(cell: &Cell) -> Option<u8> {
    let at = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"].iter().position(|bar| *bar == cell.symbol())?;
    Some(at as u8 + 1)
}

/// Cells that look alike.
fn run(out: &mut String, row: &[Cell], left: f32, top: f32) {
    let first = &row[0];
    let reversed = first.modifier.contains(Modifier::REVERSED);
    let (ink, ground) = (colour(first.fg).unwrap_or(INK), colour(first.bg));
    let (ink, ground) = if reversed { (ground.unwrap_or(GROUND), Some(ink)) } else { (ink, ground) };
    let wide = row.len() as f32 * WIDE;
    // Writing to a String cannot fail.
    if let Some(ground) = ground {
        let _ = writeln!(out, "<rect x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{HIGH}\" fill=\"{ground}\"/>");
    }
    if level(first).is_some() {
        for (at, cell) in row.iter().enumerate() {
            let high = HIGH * f32::from(level(cell).unwrap_or(0)) / 8.0;
            let (x, y) = (left + at as f32 * WIDE, top + HIGH - high);
            let _ = writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDE}\" height=\"{high}\" fill=\"{ink}\"/>");
        }
        return;
    }
    let text: String = row.iter().map(Cell::symbol).collect();
    let words = text.trim_end();
    if words.trim_start().is_empty() {
        return;
    }
    let blanks = words.len() - words.trim_start().len();
    let (x, words) = (left + blanks as f32 * WIDE, words.trim_start());
    let long = unicode_width::UnicodeWidthStr::width(words) as f32 * WIDE;
    let bold = if first.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let faint = if first.modifier.contains(Modifier::DIM) { " opacity=\"0.6\"" } else { "" };
    let y = top + BASE;
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" textLength=\"{long}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{ink}\"{bold}{faint}>{}</text>",
        escaped(words)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn colour(colour: Color) -> Option<&'static str> {
    match colour {
        Color::Black => Some("#1d2026"),
        Color::Red => Some("#f0626c"),
        Color::Green => Some("#8cc570"),
        Color::Yellow => Some("#e3b866"),
        Color::Cyan => Some("#56b6c8"),
        Color::Magenta => Some("#c583d9"),
        Color::DarkGray => Some("#7f8794"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn words_bars_and_grounds_are_drawn() {
        let mut cells = Buffer::empty(Rect::new(0, 0, 12, 1));
        cells.set_string(0, 0, " a<b", Style::new().fg(Color::Green).add_modifier(Modifier::BOLD));
        cells.set_string(6, 0, "▄█", Style::new().fg(Color::Yellow));
        cells.set_string(9, 0, "x", Style::new().bg(Color::Green).fg(Color::Black));
        let svg = picture(&cells);
        assert!(svg.contains("<text x=\"20\" y=\"25\" textLength=\"24\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#8cc570\" font-weight=\"bold\">a&lt;b</text>"), "{svg}");
        assert!(svg.contains("<rect x=\"60\" y=\"20.5\" width=\"8\" height=\"8.5\" fill=\"#e3b866\"/>"), "{svg}");
        assert!(svg.contains("<rect x=\"84\" y=\"12\" width=\"8\" height=\"17\" fill=\"#8cc570\"/>"), "{svg}");
        assert_eq!(svg.matches("<text").count(), 2, "blanks are not drawn");
    }
}

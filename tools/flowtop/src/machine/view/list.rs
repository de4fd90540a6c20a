//! The list of flows.

use std::time::Instant;

use proto::Cube;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::graph::bars;
use super::{Theme, put, put_at};
use crate::machine::flow::State;
use crate::machine::flows::Tracked;
use crate::machine::order::{Column, fit, total};
use crate::machine::screen::Screen;
use crate::machine::text::{age, cut, rate, rtt, short};

/// Draws heads and rows.
pub(super) fn draw(screen: &Screen, now: Instant, theme: &Theme, cells: &mut Buffer, area: Rect) {
    let columns = fit(area.width);
    cells.set_style(Rect { height: 1, ..area }, theme.head());
    let mut x = 0;
    for (column, wide) in &columns {
        let style = if *column == screen.sort.by { theme.sorted() } else { theme.head() };
        let text = aligned(column.shape().head, *wide, column.shape().right);
        put_at(cells, area, (x, 0), &text, style);
        x += wide + 1;
    }
    if screen.rows.is_empty() {
        put(cells, area, 2, nothing(screen), theme.dim());
        return;
    }
    for (line, at) in screen.seen().iter().enumerate() {
        let chosen = screen.top + line == screen.cursor;
        let row = Rect { y: area.y + 1 + line as u16, height: 1, ..area };
        if row.y >= area.bottom() {
            break;
        }
        draw_row(&screen.flows.all()[*at], &columns, chosen, now, theme, cells, row);
    }
}

fn nothing(screen: &Screen) -> &'static str {
    match (screen.lost.is_some(), screen.flows.all().is_empty(), screen.host.pid) {
        (true, true, _) => "nothing is known of flows until irmd is there",
        (_, true, 0) => "",
        (_, true, _) => "no flows; `oping NAME` allocates one",
        (_, false, _) => "no flow has all that in it; Esc shows all flows",
    }
}

fn draw_row(
    flow: &Tracked,
    columns: &[(Column, u16)],
    chosen: bool,
    now: Instant,
    theme: &Theme,
    cells: &mut Buffer,
    row: Rect,
) {
    let mut x = 0;
    for (column, wide) in columns {
        let (text, style) = cell(flow, *column, usize::from(*wide), now, theme);
        if *column == Column::Graph {
            let area = Rect { x: row.x + x, width: *wide, ..row };
            let values: Vec<f32> = flow.ring.last(usize::from(*wide)).map(|slot| slot.sent + slot.received).collect();
            bars(&values, None, style, theme, cells, area);
        } else {
            let text = aligned(&cut(&text, usize::from(*wide)), *wide, column.shape().right);
            put_at(cells, row, (x, 0), &text, style);
        }
        x += wide + 1;
    }
    if chosen {
        cells.set_style(row, theme.cursor());
    }
}

fn aligned(text: &str, wide: u16, right: bool) -> String {
    let blanks = usize::from(wide).saturating_sub(unicode_width::UnicodeWidthStr::width(text));
    let blanks = " ".repeat(blanks);
    if right { format!("{blanks}{text}") } else { format!("{text}{blanks}") }
}

/// What a flow shows in a column.
fn cell(flow: &Tracked, column: Column, wide: usize, now: Instant, theme: &Theme) -> (String, Style) {
    let plain = Style::default();
    let (counts, rates) = (&flow.counts, &flow.rates);
    let number = match column {
        Column::Id => Some((counts.id.to_string(), plain)),
        Column::State => Some((counts.state.letter().to_owned(), state_style(counts.state, theme))),
        Column::Sent => Some((rate(rates.sent_bytes), theme.sent())),
        Column::Received => Some((rate(rates.received_bytes), theme.received())),
        Column::Graph => Some((String::new(), theme.both())),
        Column::Rtt => Some((rtt(counts.rtt_us), theme.rtt())),
        Column::Sdus => Some((rate(rates.sent_sdus + rates.received_sdus), plain)),
        Column::Total => Some((short(total(flow) as f64), plain)),
        Column::Errors if counts.errors == 0 => Some(("-".to_owned(), plain)),
        Column::Errors => Some((short(counts.errors as f64), theme.bad())),
        _ => None,
    };
    if let Some(number) = number {
        return number;
    }
    let Some(facts) = &flow.facts else { return ("…".to_owned(), theme.dim()) };
    match column {
        Column::Name => (facts.name.clone(), theme.strong()),
        Column::Qos => (kind(facts.cube, wide).to_owned(), plain),
        Column::Layer => (facts.layer.clone(), plain),
        Column::Process => (facts.holder.fit(wide), plain),
        Column::Peer => (facts.peer(wide), plain),
        _ => (age(facts.age_ms(now)), plain),
    }
}

fn kind(cube: Cube, wide: usize) -> &'static str {
    match (cube, wide) {
        (Cube::Message, ..7) => "msg",
        (Cube::Stream, ..6) => "str",
        (cube, _) => cube.as_str(),
    }
}

fn state_style(state: State, theme: &Theme) -> Style {
    match state {
        State::Allocated => theme.received(),
        State::Pending => theme.both(),
        State::Ending | State::Ended => theme.dim(),
    }
}

//! What is said of the host.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::graph::bars;
use super::{Theme, pieces, put_at, safe};
use crate::machine::ring::SLOTS;
use crate::machine::screen::Screen;
use crate::machine::text::{age, bytes, counted, grouped, short};

/// Draws the four lines at the top.
pub(super) fn draw(screen: &Screen, theme: &Theme, cells: &mut Buffer, area: Rect) {
    who(screen, theme, cells, area);
    flows(screen, theme, cells, area);
    rates(screen, theme, cells, area);
    match &screen.lost {
        Some(why) => drop(put_at(cells, area, (0, 3), &safe(why), theme.bad())),
        None => pace(screen, theme, cells, area),
    }
}

fn who(screen: &Screen, theme: &Theme, cells: &mut Buffer, area: Rect) {
    let host = &screen.host;
    let irmd = match (&screen.lost, host.pid) {
        (Some(_), _) => "  irmd cannot be asked; trying again".to_owned(),
        (None, 0) => "  asking irmd".to_owned(),
        (None, pid) => format!("  irmd {} (pid {pid}), up {}", safe(&host.build), age(host.uptime_ms)),
    };
    let interval = screen.interval.as_millis();
    let every = match (screen.paused, interval % 1000) {
        (true, _) => "paused".to_owned(),
        (false, 0) => format!("every {}s", interval / 1000),
        (false, _) => format!("every {interval}ms"),
    };
    let name = format!("flowtop {}", safe(&host.name));
    let style = if screen.lost.is_some() { theme.bad() } else { theme.dim() };
    let end = pieces(cells, area, 0, &[(name, theme.strong()), (irmd, style)]);
    if let Ok(wide) = u16::try_from(every.len())
        && end + wide < area.width
    {
        let style = if screen.paused { theme.bad() } else { theme.dim() };
        put_at(cells, area, (area.width - wide, 0), &every, style);
    }
}

fn flows(screen: &Screen, theme: &Theme, cells: &mut Buffer, area: Rect) {
    let totals = screen.flows.totals();
    let count = screen.flows.all().len() + totals.beyond;
    let states = ["pending", "allocated", "ending"].into_iter().zip(totals.states);
    let states: Vec<String> =
        states.filter(|(_, n)| *n > 0).map(|(word, n)| format!("{} {word}", grouped(n as u64))).collect();
    let mut parts = vec![
        ("Flows  ".to_owned(), theme.dim()),
        (grouped(count as u64), theme.strong()),
        (if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) }, theme.strong()),
    ];
    for (layer, flows) in screen.host.layers.iter().filter(|(_, flows)| *flows > 0) {
        parts.push((format!("  {} ", safe(layer)), theme.dim()));
        parts.push((grouped(*flows), theme.strong()));
    }
    if totals.beyond > 0 {
        parts.push((format!("  {} not shown", grouped(totals.beyond as u64)), theme.bad()));
    }
    pieces(cells, area, 1, &parts);
}

fn rates(screen: &Screen, theme: &Theme, cells: &mut Buffer, area: Rect) {
    if screen.lost.is_some() {
        pieces(cells, area, 2, &[("Rates  not known".to_owned(), theme.dim())]);
        return;
    }
    let rates = &screen.flows.totals().rates;
    let one = |bytes_per: f32, sdus: f32, word: &str| {
        format!("{}/s {word}, {} SDU/s", bytes(f64::from(bytes_per)), short(f64::from(sdus)))
    };
    let parts = [
        ("Rates  ".to_owned(), theme.dim()),
        (one(rates.sent_bytes, rates.sent_sdus, "sent"), theme.sent()),
        ("  ".to_owned(), theme.dim()),
        (one(rates.received_bytes, rates.received_sdus, "received"), theme.received()),
    ];
    let end = pieces(cells, area, 2, &parts) + 2;
    let both: Vec<f32> = screen.flows.history().last(SLOTS).map(|slot| slot.sent + slot.received).collect();
    if end + 8 <= area.width {
        let graph = Rect { x: area.x + end, y: area.y + 2, width: area.width - end, height: 1 };
        bars(&both, None, theme.both(), theme, cells, graph);
    }
}

fn pace(screen: &Screen, theme: &Theme, cells: &mut Buffer, area: Rect) {
    let (allocated, refused) = screen.events.per_second();
    let all = grouped(screen.host.refused());
    let style = if refused > 0.0 { theme.bad() } else { theme.strong() };
    let mut parts = vec![
        ("Allocs ".to_owned(), theme.dim()),
        (format!("{allocated:.1}/s"), theme.strong()),
        (", refusals ".to_owned(), theme.dim()),
        (format!("{refused:.1}/s"), style),
        (format!(" ({all} in all)"), theme.dim()),
    ];
    if !screen.filter.is_empty() {
        let shown = counted(screen.rows.len(), "flow", "flows");
        parts.push((format!("  filter {}: {shown}", &screen.filter), theme.both()));
    }
    pieces(cells, area, 3, &parts);
}

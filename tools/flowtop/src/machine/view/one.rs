//! One flow: what it is, its last minute, what happened to it.

use std::time::Instant;

use proto::FlowId;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::graph::{bars, greatest};
use super::{Theme, put, put_at};
use crate::machine::flow::{Facts, Step};
use crate::machine::flows::Tracked;
use crate::machine::ring::SLOTS;
use crate::machine::screen::Screen;
use crate::machine::text::{age, bytes, cut, grouped, rtt, short};

/// Columns of a key, and of a key with its value where two are on a line.
const KEY: u16 = 10;
/// Columns left of a graph.
const LABEL: u16 = 17;
/// The least lines of history that are shown before graphs are made higher.
const STEPS: u16 = 4;

/// Draws the pane.
pub(super) fn draw(screen: &Screen, id: FlowId, now: Instant, theme: &Theme, cells: &mut Buffer, area: Rect) {
    let flow = screen.flows.get(id);
    let detail = screen.detail.as_ref().filter(|detail| detail.facts.id == id);
    let facts = screen.facts(id);
    cells.set_style(Rect { height: 1, ..area }, theme.head());
    let title = match (facts, detail.and_then(|detail| detail.ended.as_deref())) {
        (None, _) => format!("flow {id}"),
        (Some(facts), Some(why)) => format!("flow {id} {} is over: {why}", facts.name),
        (Some(facts), None) => format!("flow {id} {} {}", facts.name, state(flow, facts)),
    };
    put(cells, area, 0, &title, theme.head());
    let Some(facts) = facts else {
        put(cells, area, 2, "asking irmd about it", theme.dim());
        return;
    };
    let mut pairs = basics(facts, now);
    pairs.extend(flow.iter().flat_map(|flow| carried(flow)));
    pairs.extend(detail.iter().flat_map(|detail| detail.pairs.iter().cloned()));
    let used = draw_pairs(&pairs, theme, cells, inside(area, 1));
    let below = inside(area, 1 + used);
    let high = below.height.saturating_sub(STEPS + 1) / 3;
    let high = high.clamp(u16::from(below.height >= 6), 4);
    if let Some(flow) = flow {
        draw_graphs(flow, high, theme, cells, below);
    }
    let history = inside(below, if flow.is_some() { high * 3 } else { 0 });
    let told = screen.detail_at.map_or(0, |at| now.saturating_duration_since(at).as_millis() as u64);
    draw_history(detail.map_or(&[], |detail| &detail.history), told, screen.scroll, theme, cells, history);
}

fn inside(area: Rect, from: u16) -> Rect {
    let from = from.min(area.height);
    Rect { y: area.y + from, height: area.height - from, ..area }
}

fn state(flow: Option<&Tracked>, facts: &Facts) -> &'static str {
    flow.map_or(facts.state, |flow| flow.counts.state).word()
}

fn basics(facts: &Facts, now: Instant) -> Vec<(&'static str, String)> {
    let asked = if facts.source_name.is_empty() { String::new() } else { format!(" by {}", facts.source_name) };
    let side = if facts.accepting { format!("accepted; asked for{asked}") } else { format!("asked for{asked}") };
    let over = if facts.is_local() { facts.layer.clone() } else { format!("{} ({})", facts.layer, facts.ipcp) };
    let timeout = if facts.timeout_ms == 0 { String::new() } else { format!(", timeout {} ms", facts.timeout_ms) };
    let classic = if facts.classic { " (classic)" } else { "" };
    let mut pairs = vec![
        ("held by", facts.holder.fit(usize::MAX)),
        ("age", age(facts.age_ms(now))),
        ("peer", format!("{}{classic}", facts.peer(usize::MAX))),
        ("layer", over),
        ("local", if facts.local_address.is_empty() { "-".to_owned() } else { facts.local_address.clone() }),
        ("qos", format!("{}{timeout}", facts.cube.as_str())),
        ("side", side),
        ("sdu limit", if facts.sdu_limit == 0 { "-".to_owned() } else { format!("{} B", facts.sdu_limit) }),
    ];
    pairs.push(("security", facts.protection()));
    pairs
}

fn carried(flow: &Tracked) -> Vec<(&'static str, String)> {
    let (counts, rates) = (&flow.counts, &flow.rates);
    let line = |sdus: u64, octets: u64, per: f32| {
        format!("{} SDUs, {}, {} SDU/s", grouped(sdus), bytes(octets as f64), short(f64::from(per)))
    };
    vec![
        ("sent", line(counts.sent_sdus, counts.sent_bytes, rates.sent_sdus)),
        ("received", line(counts.received_sdus, counts.received_bytes, rates.received_sdus)),
        ("errors", grouped(counts.errors)),
    ]
}

/// Two pairs on a line where both fit; how many lines that took.
fn draw_pairs(pairs: &[(&'static str, String)], theme: &Theme, cells: &mut Buffer, area: Rect) -> u16 {
    let half = area.width / 2;
    let (mut line, mut x) = (0, 0);
    for (key, value) in pairs {
        let room = usize::from(half.saturating_sub(KEY + 1));
        let wide = unicode_width::UnicodeWidthStr::width(value.as_str()) > room;
        if wide && x > 0 {
            (line, x) = (line + 1, 0);
        }
        put_at(cells, area, (x, line), key, theme.dim());
        put_at(cells, area, (x + KEY, line), value, Style::default());
        (line, x) = if wide || x > 0 { (line + 1, 0) } else { (line, half) };
    }
    (line + u16::from(x > 0)).min(area.height)
}

fn draw_graphs(flow: &Tracked, high: u16, theme: &Theme, cells: &mut Buffer, area: Rect) {
    let slots: Vec<_> = flow.ring.last(SLOTS).collect();
    let sent: Vec<f32> = slots.iter().map(|slot| slot.sent).collect();
    let received: Vec<f32> = slots.iter().map(|slot| slot.received).collect();
    let trips: Vec<f32> = slots.iter().map(|slot| slot.rtt_us as f32).collect();
    let rate = |now: f32| format!("{}/s", bytes(f64::from(now)));
    // Both ways have one scale: what is higher is more.
    let most = greatest(&sent).max(greatest(&received));
    let rows = [
        ("sent", rate(flow.rates.sent_bytes), &sent, Some(most), theme.sent()),
        ("recv", rate(flow.rates.received_bytes), &received, Some(most), theme.received()),
        ("rtt", rtt(flow.counts.rtt_us), &trips, None, theme.rtt()),
    ];
    for (at, (key, value, values, most, style)) in rows.into_iter().enumerate() {
        let top = at as u16 * high;
        if top + high > area.height || high == 0 {
            return;
        }
        put_at(cells, area, (0, top), key, theme.dim());
        put_at(cells, area, (5, top), &cut(&value, usize::from(LABEL) - 6), style);
        if high > 1 && greatest(values) > 0.0 {
            let most = most.unwrap_or_else(|| greatest(values));
            let peak = if key == "rtt" { rtt(most as u32) } else { rate(most) };
            put_at(cells, area, (0, top + 1), &format!("max  {peak}"), theme.dim());
        }
        let wide = area.width.saturating_sub(LABEL).min(SLOTS as u16);
        let graph = Rect { x: area.x + LABEL, y: area.y + top, width: wide, height: high };
        bars(values, most, style, theme, cells, graph);
    }
}

fn draw_history(steps: &[Step], told_ms: u64, scroll: usize, theme: &Theme, cells: &mut Buffer, area: Rect) {
    if area.height == 0 || steps.is_empty() {
        return;
    }
    put(cells, area, 0, "history", theme.dim());
    let fits = usize::from(area.height.saturating_sub(1));
    // The latest are seen unless the user went back.
    let last = steps.len() - scroll.min(steps.len().saturating_sub(fits));
    for (line, step) in steps[last.saturating_sub(fits)..last].iter().enumerate() {
        let line = line as u16 + 1;
        let ago = format!("{:>7} ago", age(step.ago_ms.saturating_add(told_ms)));
        put_at(cells, area, (0, line), &ago, theme.dim());
        let end = put_at(cells, area, (13, line), &step.what, theme.strong());
        if !step.why.is_empty() {
            put_at(cells, area, (end, line), &format!("  {}", step.why), Style::default());
        }
    }
}

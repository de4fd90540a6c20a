//! How it reads: lines for people, one object for scripts.

use std::time::Duration;

use serde::Serialize;

use super::ping::{Reply, Tally};
use super::stats::{RttMs, ms};

/// What is known of the flow.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The name pinged.
    pub name: String,
    /// `raw` or `message`.
    pub qos: &'static str,
    /// The flow's id on this host.
    pub flow_id: u64,
    /// The layer; `local` within a host.
    pub layer: String,
    /// The peer's address; `None` within a host.
    pub address: Option<String>,
    /// The peer is a shim of 2016.
    pub classic: bool,
    /// Size of an SDU.
    pub size: usize,
    /// How long the allocation took.
    pub alloc: Duration,
}

/// Text that a peer chose, safe on a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `OPING echo: 64 bytes, raw flow 12 over net to 10.0.0.2:40123, allocated in 0.4 ms`
pub fn opening(route: &Route) -> String {
    let to = route.address.as_deref().map(|address| format!(" to {}", printable(address))).unwrap_or_default();
    let classic = if route.classic { " (classic)" } else { "" };
    format!(
        "OPING {}: {} bytes, {} flow {} over {}{to}{classic}, allocated in {:.1} ms",
        route.name,
        route.size,
        route.qos,
        route.flow_id,
        printable(&route.layer),
        ms(route.alloc),
    )
}

/// `64 bytes from echo (10.0.0.2:40123): seq=1 time=0.123 ms`
pub fn reply(route: &Route, reply: &Reply) -> String {
    let flags = match (reply.duplicate, reply.late) {
        (false, false) => "",
        (true, false) => " (duplicate)",
        (false, true) => " (late)",
        (true, true) => " (late, duplicate)",
    };
    let from = route.address.as_deref().map_or_else(|| "local".to_owned(), printable);
    format!("{} bytes from {} ({from}): seq={} time={:.3} ms{flags}", reply.bytes, route.name, reply.seq, ms(reply.rtt))
}

/// SDUs without an answer, of 100.
pub fn loss_percent(tally: &Tally) -> f64 {
    if tally.sent == 0 { 0.0 } else { (tally.sent - tally.received) as f64 * 100.0 / tally.sent as f64 }
}

/// The last lines.
pub fn summary(route: &Route, tally: &Tally, rtt: Option<RttMs>, time: Duration) -> String {
    let mut text =
        format!("--- {} oping statistics ---\n{} SDUs sent, {} received", route.name, tally.sent, tally.received);
    let extras = [(tally.duplicates, "duplicates"), (tally.late, "late"), (tally.foreign, "foreign")];
    for (count, what) in extras.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    text.push_str(&format!(", {}% loss, time {:.0} ms\n", percent(loss_percent(tally)), ms(time)));
    if let Some(rtt) = rtt {
        text.push_str(&format!(
            "rtt min/avg/median/p99/max/mdev = {:.3}/{:.3}/{:.3}/{:.3}/{:.3}/{:.3} ms\n",
            rtt.min, rtt.avg, rtt.median, rtt.p99, rtt.max, rtt.mdev
        ));
    }
    text
}

/// `0`, `33.33`, `0.1`: at most two digits, no zeros at the end. Never 0 or 100 for what is not.
fn percent(value: f64) -> String {
    let rounded = if value > 0.0 && value < 100.0 { value.clamp(0.01, 99.99) } else { value };
    let text = format!("{rounded:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The object of `--json`. Its keys are documented in docs/tools.md.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    name: &'a str,
    flow_id: u64,
    layer: &'a str,
    peer_address: Option<&'a str>,
    classic: bool,
    sdu_bytes: usize,
    alloc_ms: f64,
    sent: u64,
    received: u64,
    duplicates: u64,
    late: u64,
    foreign: u64,
    loss_percent: f64,
    time_ms: f64,
    rtt_ms: Option<RttMs>,
    ended: Option<&'a str>,
}

impl<'a> Summary<'a> {
    /// `ended`: why the flow ended before its time.
    pub fn new(route: &'a Route, tally: &Tally, rtt_ms: Option<RttMs>, time: Duration, ended: Option<&'a str>) -> Self {
        Self {
            name: &route.name,
            flow_id: route.flow_id,
            layer: &route.layer,
            peer_address: route.address.as_deref(),
            classic: route.classic,
            sdu_bytes: route.size,
            alloc_ms: ms(route.alloc),
            sent: tally.sent,
            received: tally.received,
            duplicates: tally.duplicates,
            late: tally.late,
            foreign: tally.foreign,
            loss_percent: loss_percent(tally),
            time_ms: ms(time),
            rtt_ms,
            ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route {
            name: "echo".into(),
            qos: "raw",
            flow_id: 12,
            layer: "net".into(),
            address: Some("10.0.0.2:40123".into()),
            classic: false,
            size: 64,
            alloc: Duration::from_micros(432),
        }
    }

    const RTT: RttMs = RttMs { min: 0.1, avg: 0.2, median: 0.15, p99: 0.9, max: 1.0, mdev: 0.05 };

    #[test]
    fn lines() {
        let want = "OPING echo: 64 bytes, raw flow 12 over net to 10.0.0.2:40123, allocated in 0.4 ms";
        assert_eq!(opening(&route()), want);
        let here = Route { layer: "local".into(), address: None, ..route() };
        assert_eq!(opening(&here), "OPING echo: 64 bytes, raw flow 12 over local, allocated in 0.4 ms");
        let one = Reply { seq: 1, bytes: 64, rtt: Duration::from_nanos(123_400), duplicate: false, late: false };
        assert_eq!(reply(&route(), &one), "64 bytes from echo (10.0.0.2:40123): seq=1 time=0.123 ms");
        let late = Reply { duplicate: true, late: true, ..one };
        assert_eq!(reply(&here, &late), "64 bytes from echo (local): seq=1 time=0.123 ms (late, duplicate)");
    }

    #[test]
    fn summaries() {
        let tally = Tally { sent: 3, received: 2, duplicates: 1, ..Tally::default() };
        let want = "\
--- echo oping statistics ---
3 SDUs sent, 2 received, 1 duplicates, 33.33% loss, time 2004 ms
rtt min/avg/median/p99/max/mdev = 0.100/0.200/0.150/0.900/1.000/0.050 ms
";
        assert_eq!(summary(&route(), &tally, Some(RTT), Duration::from_millis(2004)), want);
        let nothing = Tally { sent: 2, ..Tally::default() };
        let want = "--- echo oping statistics ---\n2 SDUs sent, 0 received, 100% loss, time 1 ms\n";
        assert_eq!(summary(&route(), &nothing, None, Duration::from_millis(1)), want);
    }

    #[test]
    fn percents_never_round_to_all_or_nothing() {
        let table = [(0.0, "0"), (100.0, "100"), (0.001, "0.01"), (99.999, "99.99"), (0.1, "0.1"), (50.0, "50")];
        for (value, want) in table {
            assert_eq!(percent(value), want);
        }
    }

    #[test]
    fn the_json_keys_stay() {
        let tally = Tally { sent: 2, received: 1, ..Tally::default() };
        let route = route();
        let summary = Summary::new(&route, &tally, Some(RTT), Duration::from_millis(5), Some("peer died"));
        let want = r#"{"name":"echo","flow_id":12,"layer":"net","peer_address":"10.0.0.2:40123","classic":false,"sdu_bytes":64,"alloc_ms":0.432,"sent":2,"received":1,"duplicates":0,"late":0,"foreign":0,"loss_percent":50.0,"time_ms":5.0,"rtt_ms":{"min":0.1,"avg":0.2,"median":0.15,"p99":0.9,"max":1.0,"mdev":0.05},"ended":"peer died"}"#;
        assert_eq!(serde_json::to_string(&summary).unwrap(), want);
    }

    #[test]
    fn a_peer_cannot_write_to_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}

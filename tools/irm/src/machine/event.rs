//! Events of flows: as JSON, and as a line.

use proto::v1;
use serde::Serialize;

use super::ipcp::given;
use super::name::ProcessRow;
use super::text::printable;

/// One event in `irm flow events --json`.
#[derive(Debug, Serialize)]
pub struct EventRow {
    number: u64,
    unix_us: u64,
    kind: &'static str,
    flow: Option<u64>,
    name: Option<String>,
    source_name: Option<String>,
    layer: Option<String>,
    side: &'static str,
    process: Option<ProcessRow>,
    peer_process: Option<ProcessRow>,
    peer_address: Option<String>,
    qos: &'static str,
    failure: Option<&'static str>,
    ended: Option<&'static str>,
    words: Option<String>,
    took_us: Option<u64>,
    asked: Option<u32>,
    missed: Option<u64>,
}

impl From<v1::FlowEvent> for EventRow {
    fn from(event: v1::FlowEvent) -> Self {
        let some = |n: u64| (n != 0).then_some(n);
        let (failure, ended) = (event.failure(), event.ended());
        Self {
            kind: event.kind().word(),
            number: event.number,
            unix_us: event.unix_us,
            flow: some(event.flow_id),
            name: given(event.name),
            source_name: given(event.source_name),
            layer: given(event.layer),
            side: if event.accepting { "accepting" } else { "allocating" },
            process: ProcessRow::of(event.process),
            peer_process: ProcessRow::of(event.peer_process),
            peer_address: given(event.peer_address),
            qos: event.qos.unwrap_or_default().cube().word(),
            failure: (failure != v1::FailureKind::Unspecified).then(|| failure.word()),
            ended: (ended != v1::EndReason::Unspecified).then(|| ended.word()),
            words: given(event.words),
            took_us: some(event.took_us),
            asked: (event.asked != 0).then_some(event.asked),
            missed: some(event.missed),
        }
    }
}

/// The event as a line: the time of day (UTC), the flow, what, to whom, why.
pub fn line(row: &EventRow) -> String {
    if let Some(missed) = row.missed {
        return format!("{:<15}  {missed} events were missed\n", "…");
    }
    let flow = row.flow.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let mut text = format!("{}  {flow:>6}  {:<11}", time_of_day(row.unix_us), row.kind.replace('_', " "));
    if let Some(name) = &row.name {
        text.push_str(&format!("  {}", printable(name)));
    }
    for (word, value) in [
        ("of", row.process.as_ref().map(|process| process.text().to_owned())),
        ("to", row.peer_process.as_ref().map(|process| process.text().to_owned())),
        (if row.side == "accepting" { "from" } else { "at" }, row.peer_address.as_deref().map(printable)),
        ("in", row.layer.as_deref().map(printable)),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {value}"));
        }
    }
    if let Some(took) = row.took_us {
        text.push_str(&format!(" after {}", duration(took)));
    }
    let why = row.failure.or(row.ended).map(|why| why.replace('_', " "));
    let words = row.words.as_deref().map(printable);
    for more in why.into_iter().chain(words) {
        text.push_str(&format!(": {more}"));
    }
    text.push('\n');
    text
}

fn time_of_day(unix_us: u64) -> String {
    let (s, us) = (unix_us / 1_000_000 % 86_400, unix_us % 1_000_000);
    format!("{:02}:{:02}:{:02}.{us:06}", s / 3_600, s / 60 % 60, s % 60)
}

fn duration(us: u64) -> String {
    match us {
        0..=9_999 => format!("{us} µs"),
        10_000..=9_999_999 => format!("{} ms", us / 1_000),
        _ => super::text::age(us / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> v1::FlowEvent {
        v1::FlowEvent {
            number: 7,
            unix_us: 1_700_000_000_123_456,
            kind: v1::EventKind::Refused.into(),
            flow_id: 12,
            name: "echo\u{1b}".into(),
            layer: "net".into(),
            process: Some(v1::Process { pid: 5, command: "oping".into(), ..Default::default() }),
            peer_address: "10.0.0.2:3359".into(),
            failure: v1::FailureKind::TimedOut.into(),
            words: "no answer".into(),
            took_us: 5_000_000,
            asked: 4,
            ..Default::default()
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let want = "22:13:20.123456      12  refused      echo\\u{1b} of oping (5) at 10.0.0.2:3359 in net after 5000 ms: \
                    timed out: no answer\n";
        assert_eq!(line(&event().into()), want);
        let missed = v1::FlowEvent { kind: v1::EventKind::Missed.into(), missed: 3, ..Default::default() };
        assert_eq!(line(&missed.into()).trim(), "…                3 events were missed");
    }

    #[test]
    fn an_event_is_an_object() {
        let json = serde_json::to_value(EventRow::from(event())).unwrap();
        assert_eq!(
            (&json["kind"], &json["failure"], &json["flow"]),
            (&"refused".into(), &"timed_out".into(), &12.into())
        );
        assert!(json["ended"].is_null() && json["missed"].is_null());
    }
}

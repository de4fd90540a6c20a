//! What is written is what was counted; what is documented and drawn is what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::v1::{self, Counters, Cube, EndReason, FailureKind, FlowState, IpcpState};

use super::figures::{Value, figures};
use super::*;

fn snapshot() -> Snapshot {
    let mut took = Took::default();
    took.add(Side::Asking, Duration::from_micros(100), None);
    took.add(Side::Asking, Duration::from_micros(101), None);
    took.add(Side::Asking, Duration::from_secs(61), None);
    took.add(Side::Accepting, Duration::from_millis(3), Some(FailureKind::NobodyAccepts));
    took.add(Side::Asking, Duration::from_secs(1), Some(FailureKind::FlowGone));
    let ipcp = |name: &str, state: IpcpState| v1::IpcpInfo {
        name: name.into(),
        r#type: "udp".into(),
        layer: "net".into(),
        state: state.into(),
        restarts: 2,
        ..v1::IpcpInfo::default()
    };
    let counters = [("dropped_empty", 7), ("refused_exhausted", 3), ("requests", 11)];
    let report = v1::ReportReply {
        rss_bytes: 4096,
        counters: counters.map(|(what, n)| (what.to_owned(), n)).into(),
        ..v1::ReportReply::default()
    };
    let census = Census {
        flows: BTreeMap::from([(("net".into(), Cube::Stream, FlowState::Allocated), 5)]),
        names: 4,
        processes: 3,
        ipcps: vec![ipcp("udp0", IpcpState::Operational), ipcp("udp1", IpcpState::Down)],
        refused: BTreeMap::from([("refused_flows_per_user", 9), ("adopted", 500)]),
        refusals: BTreeMap::from([
            ((Side::Accepting, FailureKind::NobodyAccepts), 1),
            ((Side::Asking, FailureKind::FlowGone), 1),
        ]),
        ended: BTreeMap::from([(EndReason::PeerDied, 6), (EndReason::IpcpStopped, 1)]),
        took,
    };
    Snapshot {
        census,
        reports: [("udp0".to_owned(), report)].into(),
        carried: vec![("local".into(), Counters { bytes_sent: 1 << 40, sdus_received: 12, ..Counters::default() })],
        refused: vec![("refused_leases", 1)],
        process: Process { cpu_seconds: 1.25, resident: 8192, started: 1.5, ..Process::default() },
    }
}

#[test]
fn both_formats_say_what_was_counted() {
    let now = snapshot();
    let older = text::text(&now, Format::Prometheus).unwrap();
    let newer = text::text(&now, Format::OpenMetrics).unwrap();
    for line in [
        r#"flowring_flows{layer="net",qos="stream",state="allocated"} 5"#,
        r#"flowring_allocation_seconds_bucket{le="0.0001",side="asking",outcome="allocated"} 1"#,
        r#"flowring_allocation_seconds_bucket{le="0.00025",side="asking",outcome="allocated"} 2"#,
        r#"flowring_allocation_seconds_bucket{le="60.0",side="asking",outcome="allocated"} 2"#,
        r#"flowring_allocation_seconds_bucket{le="+Inf",side="asking",outcome="allocated"} 3"#,
        r#"flowring_allocation_seconds_count{side="asking",outcome="allocated"} 3"#,
        r#"flowring_refusals_total{side="accepting",reason="nobody_accepts"} 1"#,
        r#"flowring_refusals_total{side="asking",reason="flow_gone"} 1"#,
        r#"flowring_refusals_total{side="asking",reason="nobody_accepts"} 0"#,
        r#"flowring_flow_ends_total{reason="peer_died"} 6"#,
        r#"flowring_flow_ends_total{reason="ipcp_stopped"} 1"#,
        r#"flowring_flow_ends_total{reason="deallocated"} 0"#,
        r#"flowring_denials_total{reason="flows_per_user"} 9"#,
        r#"flowring_denials_total{reason="leases"} 1"#,
        r#"flowring_sent_bytes_total{layer="local"} 1099511627776"#,
        r#"flowring_received_sdus_total{layer="local"} 12"#,
        r#"flowring_ipcp_up{ipcp="udp0"} 1"#,
        r#"flowring_ipcp_up{ipcp="udp1"} 0"#,
        r#"flowring_ipcp_restarts_total{ipcp="udp1"} 2"#,
        r#"flowring_ipcp_resident_bytes{ipcp="udp0"} 4096"#,
        r#"flowring_datagrams_dropped_total{ipcp="udp0",reason="empty"} 7"#,
        r#"flowring_ipcp_refusals_total{ipcp="udp0",reason="exhausted"} 3"#,
        r#"flowring_ipcp_events_total{ipcp="udp0",event="requests"} 11"#,
        "process_cpu_seconds_total 1.25",
        "flowring_names 4",
    ] {
        for text in [&older, &newer] {
            assert!(text.lines().any(|said| said == line), "{line} is missing in\n{text}");
        }
    }
    assert!(!older.contains("adopted"), "what was brought back was not denied");
    assert!(newer.ends_with("# EOF\n") && !older.contains("EOF"));
    assert!(newer.contains("# TYPE flowring_refusals counter\n"));
    assert!(older.contains("# TYPE flowring_refusals_total counter\n"));
    assert!(!older.contains("# UNIT"));
}

#[test]
fn every_metric_is_written_with_help_and_type() {
    let older = text::text(&snapshot(), Format::Prometheus).unwrap();
    for metric in CATALOGUE {
        let head = format!("# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, metric.kind.as_str());
        assert!(older.contains(&head), "{head}\n{older}");
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
    }
    let written: Vec<_> = figures(&snapshot()).iter().map(|figure| figure.metric.name).collect();
    let all: Vec<_> = CATALOGUE.iter().map(|metric| metric.name).collect();
    assert_eq!(written, all);
}

#[test]
fn what_others_chose_forges_no_line() {
    let mut now = snapshot();
    now.carried.push(("a\"} 1\nflowring_flows 5\\".into(), Counters::default()));
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = text::text(&now, format).unwrap();
        assert!(text.contains(r#"{layer="a\"} 1\nflowring_flows 5\\"} 0"#), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("flowring_flows 5")));
    }
}

#[test]
fn a_spread_counts_each_value_once() {
    let now = snapshot();
    let spreads = figures(&now).into_iter().find(|figure| figure.metric.kind == Kind::Histogram).unwrap();
    let count: u64 = spreads
        .samples
        .iter()
        .map(|(_, value)| match value {
            Value::Spread(spread) => spread.count(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(count, 5);
}

/// Words of a text that name metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let parts = text.split(move |c| !word(c));
    parts.filter(|part| part.starts_with("flowring_") || part.starts_with("process_")).collect()
}

fn exists(name: &str) -> bool {
    CATALOGUE.iter().any(|metric| {
        let parts = if metric.kind == Kind::Histogram { &["", "_bucket", "_sum", "_count"][..] } else { &[""] };
        name.strip_prefix(metric.name).is_some_and(|rest| parts.contains(&rest))
    })
}

#[test]
fn the_page_of_metrics_lists_those_there_are() {
    let page = include_str!("../../../../docs/metrics.md");
    for metric in CATALOGUE {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = format!("| `{}` | {} | {} | {} |", metric.name, metric.kind.as_str(), labels.join(", "), metric.help);
        assert!(page.contains(&row), "docs/metrics.md lacks the row\n{row}");
    }
    let unknown: Vec<_> = named(page).into_iter().filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "docs/metrics.md names what is no metric: {unknown:?}");
}

#[test]
fn the_dashboard_draws_metrics_there_are() {
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../../docs/grafana-flowring.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut drawn = BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap_or(&Vec::new()) {
            let asked = target["expr"].as_str().unwrap();
            let names = named(asked);
            assert!(!names.is_empty(), "{asked}");
            for name in names {
                assert!(exists(name), "{} asks for {name}, which is no metric", panel["title"]);
                drawn.insert(name.to_owned());
            }
        }
    }
    for name in [
        "flowring_flows",
        "flowring_allocation_seconds_bucket",
        "flowring_refusals_total",
        "flowring_sent_bytes_total",
        "flowring_datagrams_dropped_total",
        "flowring_ipcp_restarts_total",
        "flowring_ipcp_resident_bytes",
    ] {
        assert!(drawn.contains(name), "nothing draws {name}");
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
}

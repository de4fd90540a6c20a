//! The status as metrics. Names and units are by Prometheus' conventions.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use service::figures::{self, Figures, Labels};

use crate::said::control::Status;

/// A page of metrics.
pub fn page(status: Status) -> Result<String, fmt::Error> {
    figures::page(Page(status))
}

#[derive(Debug)]
struct Page(Status);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(status) = self;
        let mut figures = Figures::new(&mut encoder);
        let one = |value: u64| [(Labels::new(), value)];
        let count = |name: &str| one(status.counts.get(name).copied().unwrap_or(0));
        figures.gauge("rendezvous_members", "Members of all sessions.", one(status.members))?;
        figures.gauge("rendezvous_sessions", "Sessions.", one(status.sessions.len() as u64))?;
        figures.gauge("rendezvous_attempts_kept", "Attempts at flows that are kept.", one(status.attempts))?;
        figures.gauge("rendezvous_pairs", "Pairs that are relayed now.", one(status.pairs))?;
        for (name, help) in [
            ("joins", "Members that came."),
            ("refreshes", "JOINs of members that were there."),
            ("left", "Members that left."),
            ("silent", "Members that were silent for too long."),
            ("attempts", "Attempts at flows."),
            ("met", "Attempts of which both sides heard where the other is."),
            ("unmet", "Attempts that the other side never came to."),
            ("passed_on", "Members that did not come to an attempt, where another was asked in their place."),
            ("cookies", "Askers that were to come back with a cookie."),
            ("unknown_sessions", "What was asked about sessions that there are not."),
            ("wrong_keys", "What was asked with another key than the session's."),
            ("probes", "Probes of NATs that were answered."),
        ] {
            figures.counter(&format!("rendezvous_{name}"), help, count(name))?;
        }
        self.traffic(&mut figures)?;
        let refused = status.refused.iter().map(|(why, count)| (vec![("reason", &**why)], *count));
        figures.counter("rendezvous_refused", "Introductions and relaying that were refused, by reason.", refused)?;
        let dropped = status.dropped.iter().map(|(why, count)| (vec![("reason", &**why)], *count));
        figures.counter("rendezvous_dropped_datagrams", "Datagrams that went nowhere, by reason.", dropped)?;
        figures.gauge("rendezvous_uptime_seconds", "Since the start.", one(status.uptime_ms / 1000))?;
        figures.gauge("rendezvous_resident_bytes", "Memory in use.", one(status.rss_bytes))?;
        let reloads = [("taken", status.reloads), ("failed", status.reloads_failed)];
        let reloads = reloads.map(|(result, count)| (vec![("result", result)], count));
        figures.counter(
            "rendezvous_reloads",
            "Times that the configuration was read again, by what it came to.",
            reloads,
        )
    }
}

impl Page {
    fn traffic(&self, figures: &mut Figures<'_, '_>) -> fmt::Result {
        let count = |name: &str| self.0.counts.get(name).copied().unwrap_or(0);
        let ways = ["received", "sent", "relayed"];
        let datagrams = ways.map(|way| (vec![("way", way)], count(way)));
        figures.counter(
            "rendezvous_datagrams",
            "Datagrams; those relayed are neither received nor sent.",
            datagrams,
        )?;
        let bytes = ways.map(|way| (vec![("way", way)], count(&format!("{way}_bytes"))));
        figures.counter("rendezvous_bytes", "Their bytes.", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_figure_with_its_labels() {
        let status = Status {
            members: 3,
            counts: [("joins".to_owned(), 5), ("relayed_bytes".to_owned(), 7)].into(),
            dropped: [("rate".to_owned(), 4)].into(),
            refused: [("unknown_name".to_owned(), 2)].into(),
            ..Status::default()
        };
        let page = page(status).unwrap();
        for line in [
            "rendezvous_members 3",
            "rendezvous_joins_total 5",
            "rendezvous_met_total 0",
            "rendezvous_bytes_total{way=\"relayed\"} 7",
            "rendezvous_dropped_datagrams_total{reason=\"rate\"} 4",
            "rendezvous_refused_total{reason=\"unknown_name\"} 2",
            "rendezvous_reloads_total{result=\"failed\"} 0",
        ] {
            assert!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }
}

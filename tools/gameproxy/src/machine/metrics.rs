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
        figures.gauge("gameproxy_players", "Players that are there.", one(status.players_total))?;
        figures.counter("gameproxy_players_came", "Players that came.", one(status.came))?;
        let went = status.went.iter().map(|(why, count)| (vec![("reason", &**why)], *count));
        figures.counter("gameproxy_players_went", "Players that went, by reason.", went)?;
        let ways = |up, down| [(vec![("direction", "up")], up), (vec![("direction", "down")], down)];
        let datagrams = ways(status.datagrams_up, status.datagrams_down);
        figures.counter("gameproxy_datagrams", "Datagrams carried, up: from players.", datagrams)?;
        figures.counter("gameproxy_bytes", "Their bytes.", ways(status.bytes_up, status.bytes_down))?;
        let dropped = status.dropped.iter().map(|(why, count)| (vec![("reason", &**why)], *count));
        figures.counter("gameproxy_dropped_datagrams", "Datagrams that went nowhere, by reason.", dropped)?;
        let queue = [("0.5", status.queue_p50_us), ("0.99", status.queue_p99_us)];
        let queue = queue.into_iter().filter_map(|(part, value)| Some((vec![("quantile", part)], value?)));
        let help = "How much longer than wished datagrams waited, below this so much of them, since the start.";
        figures.gauge("gameproxy_queue_delay_microseconds", help, queue)?;
        self.places(&mut figures)?;
        let unknown = status.unknown_names.len() as u64;
        figures.gauge("gameproxy_names_not_found", "Host names of the rules that are not found.", one(unknown))?;
        figures.gauge("gameproxy_uptime_seconds", "Since the start.", one(status.uptime_ms / 1000))?;
        figures.gauge("gameproxy_resident_bytes", "Memory in use.", one(status.rss_bytes))?;
        let reloads = [("taken", status.reloads), ("failed", status.reloads_failed)];
        let reloads = reloads.map(|(result, count)| (vec![("result", result)], count));
        figures.counter("gameproxy_reloads", "Times that the rules were read again, by what it came to.", reloads)
    }
}

impl Page {
    fn places(&self, figures: &mut Figures<'_, '_>) -> fmt::Result {
        let Self(status) = self;
        let redirects = status.redirects.iter();
        let players = redirects.clone().map(|redirect| (vec![("redirect", &*redirect.name)], redirect.players));
        figures.gauge("gameproxy_redirect_players", "Players of the redirect.", players)?;
        let servers = redirects.flat_map(|redirect| {
            let labels = |server| vec![("redirect", &*redirect.name), ("server", server)];
            redirect.servers.iter().map(move |server| (labels(&*server.server), server))
        });
        let up = servers.clone().map(|(labels, server)| (labels, server.up.into()));
        figures.gauge("gameproxy_server_up", "Whether the server is taken for alive.", up)?;
        let players = servers.clone().map(|(labels, server)| (labels, server.players));
        figures.gauge("gameproxy_server_players", "Players at the server.", players)?;
        let round_trips = servers.filter_map(|(labels, server)| Some((labels, server.round_trip_us?)));
        figures.gauge("gameproxy_server_round_trip_microseconds", "To the server and back.", round_trips)?;
        // Client sides come and go: their number is shown, and the slowest.
        let there = status.ways.iter().filter(|way| way.up);
        let sides = [(Labels::new(), there.clone().count() as u64)];
        figures.gauge("gameproxy_ways", "Ways to other sides that are there.", sides)?;
        let slowest = there.filter_map(|way| way.round_trip_us).max();
        let help = "To the other side and back, of the slowest.";
        figures.gauge("gameproxy_way_round_trip_microseconds", help, slowest.map(|slowest| (Labels::new(), slowest)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::said::control::{RedirectStatus, ServerStatus, WayStatus};

    #[test]
    fn a_page_has_every_figure_with_its_labels() {
        let server = ServerStatus { server: "s:1".into(), up: true, players: 3, round_trip_us: Some(250) };
        let status = Status {
            players_total: 3,
            came: 5,
            went: BTreeMap::from([("the player was silent".into(), 2)]),
            datagrams_up: 7,
            bytes_down: 8,
            dropped: BTreeMap::from([("denied".into(), 4)]),
            queue_p99_us: Some(512),
            redirects: vec![RedirectStatus {
                name: "q\"2".into(),
                players: 3,
                servers: vec![server],
                ..RedirectStatus::default()
            }],
            ways: vec![WayStatus { up: true, round_trip_us: Some(99), ..WayStatus::default() }, WayStatus::default()],
            unknown_names: vec!["x".into()],
            uptime_ms: 12_345,
            reloads: 6,
            ..Status::default()
        };
        let page = page(status).unwrap();
        let lines = [
            "gameproxy_players 3",
            "gameproxy_players_came_total 5",
            "gameproxy_players_went_total{reason=\"the player was silent\"} 2",
            "gameproxy_datagrams_total{direction=\"up\"} 7",
            "gameproxy_bytes_total{direction=\"down\"} 8",
            "gameproxy_dropped_datagrams_total{reason=\"denied\"} 4",
            "gameproxy_queue_delay_microseconds{quantile=\"0.99\"} 512",
            "gameproxy_redirect_players{redirect=\"q\\\"2\"} 3",
            "gameproxy_server_up{redirect=\"q\\\"2\",server=\"s:1\"} 1",
            "gameproxy_server_round_trip_microseconds{redirect=\"q\\\"2\",server=\"s:1\"} 250",
            "gameproxy_ways 1",
            "gameproxy_way_round_trip_microseconds 99",
            "gameproxy_names_not_found 1",
            "gameproxy_uptime_seconds 12",
            "gameproxy_reloads_total{result=\"taken\"} 6",
        ];
        for line in lines {
            assert!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }
}

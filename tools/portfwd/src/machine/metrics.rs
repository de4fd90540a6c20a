//! The status as metrics, in OpenMetrics' text format, which Prometheus reads. Names and units are by its conventions.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use service::figures::{self, Figures, Labels};

use crate::said::control::{RuleStatus, Status};

pub use service::figures::CONTENT_TYPE;

/// A page of metrics.
pub fn page(mut status: Status) -> Result<String, fmt::Error> {
    status.rules = joined(status.rules);
    figures::page(Page(status))
}

/// One of each name: two samples with the same labels are none. Rules may be called alike, and one that was taken away and has
/// connections left may be there again.
fn joined(rules: Vec<RuleStatus>) -> Vec<RuleStatus> {
    let mut joined: Vec<RuleStatus> = Vec::with_capacity(rules.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for mut rule in rules {
        let targets = std::mem::take(&mut rule.targets);
        let place = *places.entry(rule.name.clone()).or_insert(joined.len());
        match joined.get_mut(place) {
            Some(known) => add(known, rule),
            None => joined.push(rule),
        }
        for target in targets {
            let known = joined[place].targets.iter_mut().find(|known| known.target == target.target);
            match known {
                Some(known) => {
                    known.up |= target.up;
                    known.open += target.open;
                    known.connected += target.connected;
                    known.failed += target.failed;
                }
                None => joined[place].targets.push(target),
            }
        }
    }
    joined
}

fn add(known: &mut RuleStatus, rule: RuleStatus) {
    // Of those that are in force all have to listen.
    if rule.state != "removed" && (known.state == "removed" || known.state == "listening") {
        known.state = rule.state;
    }
    known.open += rule.open;
    known.accepted += rule.accepted;
    known.bytes_in += rule.bytes_in;
    known.bytes_out += rule.bytes_out;
    for (sums, more) in
        [(&mut known.refused, rule.refused), (&mut known.ended, rule.ended), (&mut known.dropped, rule.dropped)]
    {
        for (reason, count) in more {
            *sums.entry(reason).or_default() += count;
        }
    }
}

#[derive(Debug)]
struct Page(Status);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(status) = self;
        let rules = || status.rules.iter();
        let mut figures = Figures::new(&mut encoder);
        let plain = |count: fn(&RuleStatus) -> u64| rules().map(move |rule| (vec![("rule", &*rule.name)], count(rule)));
        figures.gauge(
            "portfwd_connections",
            "Connections, and clients over UDP, that are open.",
            plain(|rule| rule.open),
        )?;
        figures.counter("portfwd_accepted", "Connections that were accepted.", plain(|rule| rule.accepted))?;
        let listens = plain(|rule| u64::from(rule.state == "listening"));
        figures.gauge("portfwd_listening", "Whether the rule takes connections.", listens)?;
        let ways = rules().flat_map(|rule| {
            let way = |way, bytes| (vec![("rule", &*rule.name), ("direction", way)], bytes);
            [way("in", rule.bytes_in), way("out", rule.bytes_out)]
        });
        figures.counter("portfwd_bytes", "Bytes carried, in: from clients, out: to them.", ways)?;
        let refused = reasons(rules(), |rule| &rule.refused);
        figures.counter(
            "portfwd_refused",
            "Connections that were not let in or reached no target, by reason.",
            refused,
        )?;
        let ended = reasons(rules(), |rule| &rule.ended);
        figures.counter("portfwd_ended", "Connections that are over, by reason.", ended)?;
        let dropped = reasons(rules(), |rule| &rule.dropped);
        figures.counter("portfwd_dropped_datagrams", "Datagrams that went nowhere, by reason.", dropped)?;
        self.targets(&mut figures)?;
        figures.gauge("portfwd_uptime_seconds", "Since the forwarder's start.", [(vec![], status.uptime_ms / 1000)])?;
        figures.gauge("portfwd_resident_bytes", "Memory in use.", [(vec![], status.rss_bytes)])?;
        let reloads = [("taken", status.reloads), ("failed", status.reloads_failed)];
        let reloads = reloads.map(|(result, count)| (vec![("result", result)], count));
        figures.counter("portfwd_reloads", "Times that the rules were read again, by what it came to.", reloads)
    }
}

impl Page {
    fn targets(&self, figures: &mut Figures<'_, '_>) -> fmt::Result {
        let all = |count: fn(&crate::said::control::TargetStatus) -> u64| {
            self.0.rules.iter().flat_map(move |rule| {
                rule.targets
                    .iter()
                    .map(move |target| (vec![("rule", &*rule.name), ("target", &*target.target)], count(target)))
            })
        };
        figures.gauge("portfwd_target_up", "Whether the target is taken for alive.", all(|target| target.up.into()))?;
        figures.gauge(
            "portfwd_target_connections",
            "Connections to the target that are open.",
            all(|target| target.open),
        )?;
        figures.counter(
            "portfwd_target_connected",
            "Connections to the target that were made.",
            all(|target| target.connected),
        )?;
        figures.counter(
            "portfwd_target_failed",
            "Connections to the target that could not be made.",
            all(|target| target.failed),
        )
    }
}

fn reasons<'a>(
    rules: impl Iterator<Item = &'a RuleStatus>,
    of: fn(&RuleStatus) -> &BTreeMap<String, u64>,
) -> impl Iterator<Item = (Labels<'a>, u64)> {
    rules.flat_map(move |rule| {
        of(rule).iter().map(|(reason, count)| (vec![("rule", &*rule.name), ("reason", &**reason)], *count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::control::TargetStatus;

    #[test]
    fn a_page_has_every_figure_with_its_labels() {
        let rule = RuleStatus {
            name: "we\"b".into(),
            state: "listening".into(),
            open: 2,
            accepted: 14,
            bytes_in: 1,
            bytes_out: 5,
            refused: BTreeMap::from([("refused".into(), 3)]),
            ended: BTreeMap::from([("clean".into(), 9)]),
            dropped: BTreeMap::from([("too long".into(), 4)]),
            targets: vec![TargetStatus { target: "10.0.0.1:80".into(), up: true, open: 1, connected: 7, failed: 2 }],
            ..RuleStatus::default()
        };
        let status = Status { rules: vec![rule], uptime_ms: 12_345, rss_bytes: 99, reloads: 6, ..Status::default() };
        let page = page(status).unwrap();
        let lines = [
            "# TYPE portfwd_connections gauge",
            "portfwd_connections{rule=\"we\\\"b\"} 2",
            "portfwd_accepted_total{rule=\"we\\\"b\"} 14",
            "portfwd_listening{rule=\"we\\\"b\"} 1",
            "portfwd_bytes_total{rule=\"we\\\"b\",direction=\"out\"} 5",
            "portfwd_refused_total{rule=\"we\\\"b\",reason=\"refused\"} 3",
            "portfwd_ended_total{rule=\"we\\\"b\",reason=\"clean\"} 9",
            "portfwd_dropped_datagrams_total{rule=\"we\\\"b\",reason=\"too long\"} 4",
            "portfwd_target_up{rule=\"we\\\"b\",target=\"10.0.0.1:80\"} 1",
            "portfwd_target_failed_total{rule=\"we\\\"b\",target=\"10.0.0.1:80\"} 2",
            "portfwd_uptime_seconds 12",
            "portfwd_resident_bytes 99",
            "portfwd_reloads_total{result=\"taken\"} 6",
        ];
        for line in lines {
            assert!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }
    #[test]
    fn rules_and_targets_that_are_called_alike_are_one() {
        let target = |up| TargetStatus { target: "80".into(), up, open: 1, connected: 7, failed: 2 };
        let rule = |state: &str, targets| RuleStatus {
            name: "web".into(),
            state: state.into(),
            accepted: 5,
            ended: BTreeMap::from([("clean".into(), 2)]),
            targets,
            ..RuleStatus::default()
        };
        let rules = vec![
            rule("removed", vec![target(true)]),
            rule("listening", vec![target(false), target(true)]),
            rule("removed", vec![]),
        ];
        let page = page(Status { rules, ..Status::default() }).unwrap();
        let lines = [
            "portfwd_listening{rule=\"web\"} 1",
            "portfwd_accepted_total{rule=\"web\"} 15",
            "portfwd_ended_total{rule=\"web\",reason=\"clean\"} 6",
            "portfwd_target_connected_total{rule=\"web\",target=\"80\"} 21",
            "portfwd_target_up{rule=\"web\",target=\"80\"} 1",
        ];
        for line in lines {
            assert!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
        }
        let mut series: Vec<&str> = page.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        series.sort_unstable();
        let all = series.len();
        series.dedup();
        assert_eq!(series.len(), all, "{page}");
    }
}

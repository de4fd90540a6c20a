//! What each metric is at a moment.

use proto::v1::{Counters, EndReason, FailureKind, IpcpState};

use super::catalogue::{self as all, Metric};
use super::took::Spread;
use super::{Process, Side, Snapshot};

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of things.
    Whole(u64),
    /// Of seconds.
    Real(f64),
    /// A histogram.
    Spread(Box<Spread>),
}

/// One metric with all its values, by those of its labels.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Which.
    pub metric: &'static Metric,
    /// Labels' values, in the metric's order, and the number.
    pub samples: Vec<(Vec<String>, Value)>,
}

impl Figure {
    fn new(metric: &'static Metric) -> Self {
        Self { metric, samples: Vec::new() }
    }

    fn with<const N: usize>(mut self, labels: [&str; N], value: impl Into<Value>) -> Self {
        self.push(labels, value);
        self
    }

    fn push<const N: usize>(&mut self, labels: [&str; N], value: impl Into<Value>) {
        debug_assert_eq!(N, self.metric.labels.len(), "{}", self.metric.name);
        self.samples.push((labels.into_iter().map(str::to_owned).collect(), value.into()));
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Whole(n)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Real(n)
    }
}

/// All metrics of a moment, in the catalogue's order.
pub fn figures(now: &Snapshot) -> Vec<Figure> {
    let mut figures = Vec::from(flows(now));
    figures.extend(carried(now));
    figures.push(Figure::new(&all::NAMES).with([], now.census.names));
    figures.push(Figure::new(&all::PROCESSES).with([], now.census.processes));
    figures.extend(ipcps(now));
    figures.extend(counted_by_ipcps(now));
    figures.push(Figure::new(&all::BUILD_INFO).with([env!("CARGO_PKG_VERSION")], 1));
    figures.extend(process(&now.process));
    figures
}

fn flows(now: &Snapshot) -> [Figure; 5] {
    let census = &now.census;
    let mut flows = Figure::new(&all::FLOWS);
    for ((layer, cube, state), n) in &census.flows {
        flows.push([layer, cube.word(), state.word()], *n);
    }
    let mut took = Figure::new(&all::ALLOCATION_SECONDS);
    for (side, outcome, spread) in census.took.spreads() {
        took.push([side.as_str(), outcome], Value::Spread(Box::new(spread.clone())));
    }
    let mut refusals = Figure::new(&all::REFUSALS);
    // Those that never happened too: a rate from nothing to one would not be seen.
    for (side, kind) in Side::ALL.into_iter().flat_map(|side| FailureKind::KNOWN.iter().map(move |kind| (side, *kind)))
    {
        refusals.push([side.as_str(), kind.word()], census.refusals.get(&(side, kind)).copied().unwrap_or(0));
    }
    let mut ends = Figure::new(&all::FLOW_ENDS);
    for reason in EndReason::KNOWN {
        ends.push([reason.word()], census.ended.get(reason).copied().unwrap_or(0));
    }
    let mut denials = Figure::new(&all::DENIALS);
    for (what, n) in census.refused.iter().map(|(what, n)| (*what, *n)).chain(now.refused.iter().copied()) {
        // Beside what was denied, irmd counts there what was taken back.
        if let Some(what) = what.strip_prefix("refused_") {
            denials.push([what], n);
        }
    }
    [flows, took, refusals, ends, denials]
}

/// What flows carried, and which of their counters says it.
type Column = (&'static Metric, fn(&Counters) -> u64);

fn carried(now: &Snapshot) -> impl Iterator<Item = Figure> {
    let columns: [Column; 6] = [
        (&all::SENT_SDUS, |c| c.sdus_sent),
        (&all::SENT_BYTES, |c| c.bytes_sent),
        (&all::RECEIVED_SDUS, |c| c.sdus_received),
        (&all::RECEIVED_BYTES, |c| c.bytes_received),
        (&all::SEND_ERRORS, |c| c.send_errors),
        (&all::RECEIVE_ERRORS, |c| c.receive_errors),
    ];
    columns.into_iter().map(|(metric, column)| {
        now.carried.iter().fold(Figure::new(metric), |figure, (layer, counters)| figure.with([layer], column(counters)))
    })
}

fn ipcps(now: &Snapshot) -> [Figure; 4] {
    let mut info = Figure::new(&all::IPCP_INFO);
    let mut up = Figure::new(&all::IPCP_UP);
    let mut restarts = Figure::new(&all::IPCP_RESTARTS);
    let mut resident = Figure::new(&all::IPCP_RESIDENT);
    for ipcp in &now.census.ipcps {
        let name = ipcp.name.as_str();
        let report = now.reports.get(name);
        info.push([name, &ipcp.r#type, &ipcp.layer], 1);
        up.push([name], u64::from(report.is_some() && ipcp.state() == IpcpState::Operational));
        restarts.push([name], u64::from(ipcp.restarts));
        if let Some(report) = report {
            resident.push([name], report.rss_bytes);
        }
    }
    [info, up, restarts, resident]
}

/// What IPCPs count is told apart by the beginnings of its names.
fn counted_by_ipcps(now: &Snapshot) -> [Figure; 3] {
    let mut dropped = Figure::new(&all::DROPPED);
    let mut refused = Figure::new(&all::IPCP_REFUSALS);
    let mut events = Figure::new(&all::IPCP_EVENTS);
    for ipcp in &now.census.ipcps {
        let Some(report) = now.reports.get(&ipcp.name) else { continue };
        let mut counters: Vec<(&str, u64)> = report.counters.iter().map(|(what, n)| (what.as_str(), *n)).collect();
        counters.sort_unstable();
        for (what, n) in counters {
            if let Some(reason) = what.strip_prefix("dropped_") {
                dropped.push([&ipcp.name, reason], n);
            } else if let Some(reason) = what.strip_prefix("refused_") {
                refused.push([&ipcp.name, reason], n);
            } else {
                events.push([&ipcp.name, what], n);
            }
        }
    }
    [dropped, refused, events]
}

fn process(process: &Process) -> [Figure; 6] {
    [
        Figure::new(&all::CPU_SECONDS).with([], process.cpu_seconds),
        Figure::new(&all::RESIDENT).with([], process.resident),
        Figure::new(&all::VIRTUAL).with([], process.virtual_memory),
        Figure::new(&all::OPEN_FDS).with([], process.open_fds),
        Figure::new(&all::MAX_FDS).with([], process.max_fds),
        Figure::new(&all::START_TIME).with([], process.started),
    ]
}

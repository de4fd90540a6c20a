//! What irmd says, as flowtop takes it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::{Cube, FlowId, v1};

use super::event::Refusal;
use super::flow::{Counts, Detail, Facts, Holder, State, Step};
use super::text::{age, bytes, grouped, printable, rtt};

/// About irmd and its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The host's own name.
    pub name: String,
    /// irmd's version.
    pub build: String,
    /// irmd's process; 0: never heard of.
    pub pid: u32,
    /// irmd's age.
    pub uptime_ms: u64,
    /// Layers and how many flows go over each.
    pub layers: Vec<(String, u64)>,
    /// Flows that were allocated since irmd's start.
    pub allocated: u64,
    /// Flows that were not, by why; the most frequent first.
    pub refusals: Vec<(String, u64)>,
}

/// Something that irmd said. Each question is answered by one of them; refusals come when they happen.
#[derive(Debug)]
pub enum Told {
    /// What all flows have carried; about irmd.
    Counts(Box<Host>, Vec<Counts>),
    /// What is known of some flows.
    Rows(Vec<Facts>),
    /// One flow with its history; None: irmd knows no such flow.
    Detail(FlowId, Box<Option<Detail>>),
    /// What came of ending a flow.
    Ended(FlowId, Result<(), String>),
    /// irmd cannot be asked, and why.
    Lost(String),
    /// Refusals are told from now on, by the irmd of this process.
    Began(u32),
    /// A flow was refused.
    Refused(Refusal),
    /// So many events were lost on their way.
    Missed(u64),
}

impl Host {
    /// From irmd's status.
    pub fn new(name: &str, status: v1::StatusReply) -> Self {
        let mut layers: BTreeMap<String, u64> = BTreeMap::new();
        for ipcp in status.ipcps.iter().filter(|ipcp| !ipcp.layer.is_empty()) {
            *layers.entry(printable(&ipcp.layer)).or_default() += u64::from(ipcp.flows);
        }
        let elsewhere: u64 = layers.values().sum();
        let local = u64::from(status.flows).saturating_sub(elsewhere);
        let mut layers: Vec<_> = layers.into_iter().collect();
        if local > 0 {
            layers.push(("local".to_owned(), local));
        }
        let mut refusals: Vec<_> =
            status.refusals.into_iter().map(|(kind, count)| (printable(&kind).replace('_', " "), count)).collect();
        refusals.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Self {
            name: printable(name),
            build: printable(&status.build),
            pid: status.pid,
            uptime_ms: status.uptime_ms,
            layers,
            allocated: status.flows_allocated,
            refusals,
        }
    }

    /// All flows that were refused.
    pub fn refused(&self) -> u64 {
        self.refusals.iter().map(|(_, count)| count).sum()
    }
}

fn state(state: v1::FlowState) -> State {
    match state {
        v1::FlowState::Pending => State::Pending,
        v1::FlowState::Unspecified | v1::FlowState::Allocated => State::Allocated,
        v1::FlowState::Ending => State::Ending,
        v1::FlowState::Ended => State::Ended,
    }
}

fn holder(process: Option<v1::Process>) -> Holder {
    process.map_or_else(Holder::default, |process| Holder { command: process.command, pid: process.pid })
}

/// A page of counts, added to those of the pages before. Columns that are shorter than the ids end with zeros.
pub fn add_page(page: &v1::FlowCountsReply, counts: &mut Vec<Counts>) {
    let at = |column: &[u64], row: usize| column.get(row).copied().unwrap_or(0);
    for (row, id) in page.flow_id.iter().enumerate() {
        let state = page.state.get(row).and_then(|state| v1::FlowState::try_from(*state).ok()).map(state);
        if state == Some(State::Ended) {
            continue;
        }
        counts.push(Counts {
            id: FlowId(*id),
            state: state.unwrap_or_default(),
            sent_sdus: at(&page.sdus_sent, row),
            sent_bytes: at(&page.bytes_sent, row),
            received_sdus: at(&page.sdus_received, row),
            received_bytes: at(&page.bytes_received, row),
            errors: at(&page.errors, row),
            rtt_us: page.rtt_us.get(row).copied().unwrap_or(0),
        });
    }
}

/// A row of irmd's listing.
pub fn facts(now: Instant, info: v1::FlowInfo) -> Facts {
    let qos = info.qos.unwrap_or_default();
    let cube = match qos.cube() {
        v1::Cube::Unspecified | v1::Cube::Raw => Cube::Raw,
        v1::Cube::Message => Cube::Message,
        v1::Cube::Stream => Cube::Stream,
    };
    Facts {
        state: state(info.state()),
        cube,
        timeout_ms: qos.timeout_ms,
        name: info.name,
        source_name: info.source_name,
        layer: info.layer,
        ipcp: info.ipcp,
        accepting: info.accepting,
        holder: holder(info.process),
        peer_holder: holder(info.peer_process),
        local_address: info.local_address,
        peer_address: info.peer_address,
        classic: info.classic,
        encrypted: info.encrypted,
        identity: info.peer_identity,
        certified: info.peer_certified,
        trusted_by: info.trusted_by,
        age_ms: info.age_ms,
        sdu_limit: info.sdu_limit,
        ..Facts::unknown(FlowId(info.flow_id), now)
    }
    .finished()
}

/// One flow in full.
pub fn detail(now: Instant, info: v1::FlowInfo) -> Detail {
    let ended = (info.state() == v1::FlowState::Ended).then(|| ending(&info));
    let mut pairs = Vec::new();
    if let Some(idle) = info.idle_ms {
        pairs.push(("idle", age(idle)));
    }
    if let Some(socket) = &info.socket {
        pairs.push(("queues", queues(socket)));
        if socket.drops > 0 {
            pairs.push(("dropped", format!("{} datagrams, by the full queue or the filter", grouped(socket.drops))));
        }
    }
    if let Some(socket) = &info.peer_socket {
        pairs.push(("its queues", queues(socket)));
    }
    if let Some(path) = &info.path {
        let us = u32::try_from(path.rtt_us).unwrap_or(u32::MAX);
        let lost =
            if path.sent_packets == 0 { 0.0 } else { 100.0 * path.lost_packets as f64 / path.sent_packets as f64 };
        pairs.push(("path", format!("rtt {}, window {}", rtt(us), bytes(path.congestion_window as f64))));
        pairs.push((
            "lost",
            format!("{} of {} packets ({lost:.1} %)", grouped(path.lost_packets), grouped(path.sent_packets)),
        ));
    }
    let step = |step: &v1::FlowStep| Step {
        ago_ms: step.ms_ago,
        what: printable(if step.what.is_empty() { step.kind().word() } else { &step.what }),
        why: printable(&step.why),
    };
    let history = info.history.iter().map(step).collect();
    Detail { pairs, history, ended, facts: facts(now, info) }
}

fn ending(info: &v1::FlowInfo) -> String {
    let word = match info.ended() {
        v1::EndReason::Unspecified => info.failure().word(),
        reason => reason.word(),
    };
    let word = word.replace('_', " ");
    if info.words.is_empty() { word } else { format!("{word}: {}", printable(&info.words)) }
}

fn queues(socket: &v1::SocketInfo) -> String {
    format!("to read {}, to send {}", bytes(socket.receive_queue as f64), bytes(socket.send_queue as f64))
}

/// An event, where flowtop shows it; `now_us` is this host's clock in microseconds since 1970.
pub fn event(now_us: u64, event: v1::FlowEvent) -> Option<Told> {
    match event.kind() {
        v1::EventKind::Missed => return Some(Told::Missed(event.missed)),
        v1::EventKind::Refused => {}
        _ => return None,
    }
    let process = holder(event.process.clone());
    let asker = match (event.accepting, process.pid) {
        (true, _) => event.peer_address.clone(),
        (false, 0) => event.source_name.clone(),
        (false, _) => process.fit(usize::MAX),
    };
    Some(Told::Refused(Refusal {
        number: event.number,
        age: Duration::from_micros(now_us.saturating_sub(event.unix_us)),
        reason: event.failure().word().replace('_', " "),
        name: printable(&event.name),
        asker: printable(&asker),
        words: printable(&event.words),
    }))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a clock to begin with")]
mod tests;

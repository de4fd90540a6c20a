//! What listings show of a flow.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::v1::FlowState;
use proto::{FlowId, Name, Qos, WireId};

use super::Shim;
use super::flow::Flow;
use super::output::{Key, Owner};
use super::table::Phase;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where the next page begins.
    pub key: Key,
    /// irmd's id; none while no program has accepted, and when this side is done.
    pub flow: Option<FlowId>,
    /// The name that was asked for.
    pub name: Name,
    /// Who asked.
    pub source: String,
    /// What was asked of the flow.
    pub qos: Qos,
    /// How it stands.
    pub state: FlowState,
    /// A program of this host accepts it.
    pub accepting: bool,
    /// Who may take it or took it.
    pub owner: Owner,
    /// This end, while its socket is open.
    pub local: Option<SocketAddr>,
    /// The peer's end.
    pub peer: SocketAddr,
    /// The peer is a classic shim.
    pub classic: bool,
    /// Since the request.
    pub age: Duration,
    /// This side's id of the flow in datagrams, and the peer's; 0 where it is not known.
    pub ids: [WireId; 2],
    /// Longest SDU, bytes; 0 while it is not known.
    pub sdu_limit: u32,
    /// Requests that were sent to the peer; 0 where this host accepts.
    pub asked: u32,
    /// What the peer's address is, where a rendezvous introduced the two: "local", "public", "mapped", "predicted".
    pub way: &'static str,
    /// Since its program took it, if it has.
    pub taken: Option<Duration>,
}

impl Shim {
    /// At most `most` flows after `after`, in order.
    pub fn rows(&self, now: Instant, after: Key, most: usize) -> Vec<Row> {
        let later = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        self.flows.range(later).take(most).map(|(key, flow)| row(now, *key, flow)).collect()
    }

    /// One flow.
    pub fn row(&self, now: Instant, id: FlowId) -> Option<Row> {
        let key = self.by_id.get(&id)?;
        self.flows.get(key).map(|flow| row(now, *key, flow))
    }

    /// How many flows there are, and how many of them wait for an answer.
    pub fn census(&self) -> (usize, usize) {
        let pending = [
            Phase::Opening,
            Phase::Meeting,
            Phase::Asking,
            Phase::Promised,
            Phase::Knocking,
            Phase::Joining,
            Phase::Reserving,
            Phase::Waiting,
            Phase::Accepting,
        ];
        (self.flows.len(), pending.into_iter().map(|phase| self.tallied(phase)).sum())
    }
}

fn row(now: Instant, key: Key, flow: &Flow) -> Row {
    Row {
        key,
        flow: flow.id,
        name: flow.name.clone(),
        source: flow.source.clone(),
        qos: flow.qos,
        state: match flow.state.phase() {
            Phase::Offered | Phase::Held | Phase::Probing => FlowState::Allocated,
            Phase::Refusing | Phase::Flushing | Phase::Telling | Phase::Draining | Phase::Over => FlowState::Ending,
            _ => FlowState::Pending,
        },
        accepting: flow.accepting,
        owner: flow.owner.clone(),
        local: flow.local,
        peer: flow.peer,
        classic: flow.classic,
        age: now.saturating_duration_since(flow.since),
        ids: [flow.ours, flow.theirs],
        sdu_limit: flow.sdu_limit,
        asked: flow.requests,
        way: super::meeting::way_word(flow.way),
        taken: flow.taken.map(|taken| now.saturating_duration_since(taken)),
    }
}

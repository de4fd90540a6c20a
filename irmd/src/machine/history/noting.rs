//! Where the machine says what happens: each is told to its history.

use std::sync::Arc;
use std::time::Instant;

use proto::FlowId;
use proto::v1::{self, EndReason, EventKind, Failure};

use super::{History, Past, Subject};
use crate::machine::flow::Flow;
use crate::machine::{Irm, arrive};

impl Irm {
    /// What happened, for the owner to tell followers of.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The same, to take what is new of it.
    pub fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// It is this moment: to be said before inputs that come without their time.
    pub fn clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// A flow begins, or comes back.
    pub(in crate::machine) fn begun(&mut self, row: FlowId, kind: EventKind) {
        let Some(flow) = self.flows.get_mut(row) else { return };
        flow.past = Past::default();
        if kind == EventKind::Returned {
            flow.past.allocated = Some(flow.since);
            flow.past.settled = true;
        }
        self.history.note(self.now, flow, kind, None);
    }

    /// Something happened to a flow.
    pub(in crate::machine) fn note(&mut self, row: FlowId, kind: EventKind, words: Option<Arc<str>>) {
        if let Some(flow) = self.flows.get_mut(row) {
            self.history.note(self.now, flow, kind, words);
        }
    }

    /// A flow is allocated, after so many requests to the peer.
    pub(in crate::machine) fn note_allocated(&mut self, row: FlowId, asked: u32) {
        let Some(flow) = self.flows.get_mut(row) else { return };
        flow.past.settled = true;
        if asked > 1 {
            self.history.asked_again(self.now, flow, asked);
        }
        self.history.note(self.now, flow, EventKind::Allocated, None);
    }

    /// A request was refused before it was a flow.
    pub(in crate::machine) fn note_turned_away(&mut self, subject: Option<Subject>, failure: &Failure) {
        if let Some(subject) = subject {
            self.history.turned_away(self.now, subject, failure);
        }
    }

    /// The other end of a flow that is back is back, too: events to come are told to its user.
    pub(in crate::machine) fn note_whole(&mut self, row: FlowId) {
        if let Some(flow) = self.flows.get_mut(row) {
            flow.past.settled = true;
        }
    }

    /// The peer of a flow was not trusted.
    pub(in crate::machine) fn note_untrusted(&mut self, row: FlowId, failure: &Failure) {
        if let Some(flow) = self.flows.get_mut(row) {
            self.history.untrusted(self.now, flow, failure);
        }
    }

    /// A flow that nobody waited for is known not to be there.
    pub(in crate::machine) fn note_given_up(&mut self, flow: Option<Flow>) {
        if let Some(flow) = flow {
            self.history.given_up(self.now, flow);
        }
    }

    /// A flow was never allocated.
    pub(in crate::machine) fn note_refused(&mut self, flow: Flow, failure: &Failure) {
        self.history.refused(self.now, flow, failure);
    }

    /// Nobody waits for a flow any more that an IPCP is asked for: its row stays until the IPCP has answered.
    pub(in crate::machine) fn note_abandoned(&mut self, row: FlowId, failure: &Failure) {
        if let Some(flow) = self.flows.get_mut(row) {
            self.history.abandoned(self.now, flow, failure);
        }
    }

    /// A flow is over.
    pub(in crate::machine) fn note_ended(
        &mut self,
        flow: Option<Flow>,
        why: EndReason,
        counters: Option<v1::Counters>,
    ) {
        if let Some(flow) = flow {
            self.history.ended(self.now, flow, why, arrive::words(why), counters);
        }
    }

    /// What an end of a local flow has carried; heard when it is over.
    pub fn carried(&mut self, end: FlowId, counters: v1::Counters) {
        self.history.carried(end, counters);
    }
}

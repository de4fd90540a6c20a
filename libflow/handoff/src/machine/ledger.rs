//! Who holds which flow: leases, tokens and slots together.
//!
//! Inputs are the methods, outputs the effects of [`Ledger::poll_effect`], to be done in order. A flow's row goes
//! from *offered* to *held* to nothing; it goes when the program has released the flow **and** the daemon is done
//! with it, so a slot never has two flows.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::handoff::ToProgram;
use proto::v1::{self, Counters, EndReason, Failure};
use proto::{FlowId, Token};

use super::carried::Carried;
use super::failures::{already_held, no_slot, unknown_token};
use super::slots::Slots;
use super::tokens::{Offered, Tokens};
use super::{Effect, LeaseId, Told};
use crate::server::{AdoptionId, MAX_TICKET, Process};

/// Longest sentence in a packet, bytes; a failure's text beyond it is cut. Two of them and a ticket fit a packet.
const MAX_TEXT: usize = 512;

/// What a ledger allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Statistics slots, thus flows, per lease.
    pub(crate) slots: u32,
    /// Redeems of one lease that wait for a pending flow, and adoptions that wait for an answer.
    pub(crate) waiting: usize,
    /// Lifetime of an offered token.
    pub(crate) take_within: Duration,
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) process: Process,
    pub(super) greeted: bool,
    pub(super) slots: Slots,
    pub(super) waiting: HashSet<Token>,
    pub(super) adopting: HashSet<AdoptionId>,
    pub(super) flows: BTreeSet<FlowId>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Holder {
    Offered(Token),
    Held { lease: LeaseId, slot: u32, released: bool },
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) holder: Holder,
    pub(super) gone: Option<EndReason>,
    pub(super) forgotten: bool,
    /// What its program had counted when it was looked at last.
    pub(super) seen: Counters,
}

#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) lease: LeaseId,
    pub(super) ticket: Vec<u8>,
    pub(super) counters: Counters,
}

impl Row {
    pub(super) fn new(holder: Holder) -> Self {
        Self { holder, gone: None, forgotten: false, seen: Counters::default() }
    }
}

/// All that one hand-over server knows; `S` is a flow's socket.
#[derive(Debug)]
pub(crate) struct Ledger<S> {
    pub(super) limits: Limits,
    pub(super) leases: HashMap<LeaseId, Lease>,
    pub(super) leases_of: HashMap<Process, usize>,
    pub(super) tokens: Tokens<S>,
    pub(super) flows: HashMap<FlowId, Row>,
    pub(super) adoptions: HashMap<AdoptionId, Adoption>,
    pub(super) next_adoption: u64,
    pub(super) carried: Carried,
    pub(super) effects: VecDeque<Effect<S>>,
}

impl<S> Ledger<S> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            leases: HashMap::new(),
            leases_of: HashMap::new(),
            tokens: Tokens::new(),
            flows: HashMap::new(),
            adoptions: HashMap::new(),
            next_adoption: 1,
            carried: Carried::default(),
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect<S>> {
        self.effects.pop_front()
    }

    pub(crate) fn expect(&mut self, token: Token) {
        self.tokens.expect(token);
    }

    pub(crate) fn offer(&mut self, now: Instant, token: Token, offered: Offered<S>) {
        let flow = offered.flow;
        if self.flows.contains_key(&flow) || offered.ticket.len() > MAX_TICKET {
            debug_assert!(false, "flow {flow} is offered twice, or with too long a ticket");
            return self.tell(Told::NotTaken { flow });
        }
        self.flows.insert(flow, Row::new(Holder::Offered(token)));
        let waiting = self.tokens.offer(token, offered, now + self.limits.take_within);
        for lease in waiting {
            if let Some(row) = self.leases.get_mut(&lease) {
                row.waiting.remove(&token);
            }
            self.redeem(lease, token);
        }
    }

    pub(crate) fn withdraw(&mut self, token: Token, failure: &Failure) {
        let (flow, waiting) = self.tokens.withdraw(token);
        if let Some(flow) = flow {
            self.flows.remove(&flow);
        }
        for lease in waiting {
            if let Some(row) = self.leases.get_mut(&lease) {
                row.waiting.remove(&token);
            }
            self.deny(lease, &token.0, failure.clone());
        }
    }

    pub(crate) fn gone(&mut self, flow: FlowId, reason: EndReason) {
        let Some(row) = self.flows.get_mut(&flow) else { return };
        if row.gone.replace(reason).is_some() {
            return;
        }
        match row.holder {
            Holder::Offered(_) => {}
            Holder::Held { released: true, .. } => self.free(flow),
            Holder::Held { lease, .. } => self.say_gone(lease, flow, reason),
        }
    }

    /// The flow's peer is elsewhere: its program sends there, and shows `ticket` from now on.
    pub(crate) fn moved(&mut self, flow: FlowId, peer: SocketAddr, ticket: Vec<u8>) {
        debug_assert!(ticket.len() <= MAX_TICKET, "flow {flow}: too long a ticket");
        if let Some((lease, _)) = self.slot(flow) {
            let moved = v1::Moved { flow_id: flow.0, peer: peer.to_string(), ticket };
            self.effects.push_back(Effect::Say { lease, packet: ToProgram::Moved(moved) });
        }
    }

    pub(crate) fn forget(&mut self, flow: FlowId) {
        let Some(row) = self.flows.get_mut(&flow) else { return };
        row.forgotten = true;
        match row.holder {
            Holder::Offered(token) => self.withdraw(token, &unknown_token()),
            Holder::Held { released: true, .. } => self.free(flow),
            Holder::Held { .. } => {}
        }
    }

    pub(crate) fn adopted(&mut self, adoption: AdoptionId, flow: FlowId, sdu_limit: u32, ticket: Vec<u8>) {
        let Some((lease, presented, counters)) = self.end_adoption(adoption) else { return };
        if self.flows.contains_key(&flow) || ticket.len() > MAX_TICKET {
            return self.deny(lease, &presented, already_held(flow));
        }
        let Some(slot) = self.hold(lease, flow, counters) else {
            return self.deny(lease, &presented, no_slot());
        };
        // What comes that is no SDU its program knows since its first grant.
        let grant = v1::Grant { token: presented, flow_id: flow.0, slot, sdu_limit, ticket, ..v1::Grant::default() };
        self.effects.push_back(Effect::Say { lease, packet: ToProgram::Grant(grant) });
    }

    pub(crate) fn denied(&mut self, adoption: AdoptionId, failure: Failure) {
        if let Some((lease, presented, _)) = self.end_adoption(adoption) {
            self.deny(lease, &presented, failure);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(flow) = self.tokens.expire(now) {
            self.flows.remove(&flow);
            self.tell(Told::NotTaken { flow });
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.tokens.poll_timeout()
    }

    /// Where a held flow's statistics are.
    pub(crate) fn slot(&self, flow: FlowId) -> Option<(LeaseId, u32)> {
        match self.flows.get(&flow)?.holder {
            Holder::Held { lease, slot, .. } => Some((lease, slot)),
            Holder::Offered(_) => None,
        }
    }

    /// A flow's slot holds `counters` for the last time.
    pub(crate) fn counted(&mut self, mut seen: Counters, counters: Counters) {
        self.carried.add(&mut seen, counters);
    }

    /// What all flows have carried here, those that are over too; `read` is what a slot of a lease holds.
    pub(crate) fn carried(&mut self, read: impl Fn(LeaseId, u32) -> Option<Counters>) -> Counters {
        for row in self.flows.values_mut() {
            if let Holder::Held { lease, slot, .. } = row.holder
                && let Some(counters) = read(lease, slot)
            {
                self.carried.add(&mut row.seen, counters);
            }
        }
        self.carried.total()
    }

    /// Who holds a flow.
    pub(crate) fn holder(&self, flow: FlowId) -> Option<Process> {
        let (lease, _) = self.slot(flow)?;
        self.leases.get(&lease).map(|row| row.process)
    }

    pub(super) fn tell(&mut self, told: Told) {
        self.effects.push_back(Effect::Tell(told));
    }

    pub(super) fn close(&mut self, lease: LeaseId, why: &'static str) {
        self.effects.push_back(Effect::Close { lease, why });
    }

    pub(super) fn say_gone(&mut self, lease: LeaseId, flow: FlowId, reason: EndReason) {
        let gone = v1::Gone { flow_id: flow.0, reason: reason.into() };
        self.effects.push_back(Effect::Say { lease, packet: ToProgram::Gone(gone) });
    }

    /// `asked`: the token or the ticket.
    pub(super) fn deny(&mut self, lease: LeaseId, asked: &[u8], mut failure: Failure) {
        for text in [&mut failure.message, &mut failure.reason] {
            text.truncate(proto::clip(text, MAX_TEXT).len());
        }
        let denied = v1::Denied { token: asked.to_vec(), failure: Some(failure) };
        self.effects.push_back(Effect::Say { lease, packet: ToProgram::Denied(denied) });
    }

    pub(super) fn free(&mut self, flow: FlowId) {
        if let Some(Row { holder: Holder::Held { lease, slot, .. }, seen, .. }) = self.flows.remove(&flow)
            && let Some(row) = self.leases.get_mut(&lease)
        {
            row.flows.remove(&flow);
            row.slots.give_back(slot);
            // Before the slot's next flow clears it: effects are done in order.
            self.effects.push_back(Effect::Count { lease, slot, seen });
        }
    }

    pub(super) fn end_adoption(&mut self, adoption: AdoptionId) -> Option<(LeaseId, Vec<u8>, Counters)> {
        let Adoption { lease, ticket, counters } = self.adoptions.remove(&adoption)?;
        self.leases.get_mut(&lease)?.adopting.remove(&adoption);
        Some((lease, ticket, counters))
    }
}

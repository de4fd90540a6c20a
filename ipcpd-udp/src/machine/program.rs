//! What a program does with its flow, as the hand-over socket and irmd tell it.

use std::time::{Duration, Instant};

use proto::shim::Binding;
use proto::v1::EndReason;
use proto::{Cube, FlowId, Token};

use super::flow::{Draining, Flow, KeepAlive, State};
use super::output::{Filter, Key, Output};
use super::table::Cause;
use super::{Shim, ticket};

/// A peer may ask for keep-alives; not for a flood of them.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(1);
/// A flow through a rendezvous has one in any case: NATs forget after 30 s.
const THROUGH_NATS: Duration = Duration::from_secs(15);

impl Flow {
    /// Its datagrams are the program's own handshake and what that protects, not bare SDUs.
    pub(super) fn is_protected(&self) -> bool {
        self.qos.cube != Cube::Raw
    }

    /// Whether its program may dissolve the connection of its socket, to follow a client whose address changes. On the
    /// listen port it would take what the listener is to hear.
    pub(super) fn may_dissolve(&self) -> bool {
        self.accepting && self.is_protected() && !self.is_on_listen_port()
    }

    /// Starts the keep-alive if the QoS asks for one. Looked at twice per period, so that the gap is never longer. Message
    /// and stream flows have one of their own, which goes to where the peer is.
    pub(super) fn keepalive(&mut self, now: Instant) {
        let asked = Duration::from_millis(self.qos.keepalive_ms.into());
        let period = match self.way {
            // Both sides' NATs are kept open.
            Some(_) if asked.is_zero() => THROUGH_NATS,
            Some(_) => asked.min(THROUGH_NATS),
            None => asked,
        };
        if !period.is_zero() && !self.is_protected() {
            let every = period.max(SHORTEST_KEEPALIVE) / 2;
            self.keepalive = Some(KeepAlive { every, next: now + every, sent: 0 });
        }
    }

    /// What is kept from the program when the socket is connected.
    pub(super) fn filter(&self) -> Filter {
        let (name, ours) = (self.name.clone(), self.ours);
        match (self.accepting, self.classic, self.shared.is_some()) {
            (false, true, _) => Filter::NoEchoes(name, ours),
            (false, false, _) => Filter::NoAnswers(name, ours),
            (true, true, false) => Filter::Flow,
            (true, false, false) => Filter::NoControl(ours),
            // On the listen port the socket drops it all: the kernel counts that.
            (true, true, true) => Filter::NoRepeats(name),
            (true, false, true) => Filter::NoRequests(name, self.theirs, ours),
        }
    }
}

impl Shim {
    /// `binding`: of a message or stream flow.
    pub(super) fn offer(&mut self, key: Key, token: Token, binding: Option<Binding>) {
        let Some(flow) = self.flows.get(&key) else { return };
        let Some(id) = flow.id else { return };
        let ticket = ticket::seal(&self.settings.ticket_key, &flow.ticket(self.epoch));
        let (owner, sdu_limit) = (flow.owner.clone(), flow.sdu_limit);
        let unwanted = flow.filter().left_to_program();
        let fixed = !flow.may_dissolve();
        let movable = flow.may_move();
        self.out(Output::Offer { key, flow: id, token, owner, sdu_limit, ticket, unwanted, binding, fixed, movable });
    }

    /// The program took the flow's socket.
    pub fn taken(&mut self, now: Instant, flow: FlowId) {
        let Some(&key) = self.by_id.get(&flow) else { return };
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.taken.get_or_insert(now);
        match &mut flow.state {
            State::Offered => {
                flow.go(Cause::Taken, State::Held);
                self.begin_moving(now, key);
            }
            // The peer was faster: what it sent can still be read.
            State::Draining(draining) => {
                draining.since.get_or_insert(now);
                draining.next = now;
                draining.pause = Draining::FIRST_PAUSE;
            }
            _ => {}
        }
        self.settle(key);
    }

    /// No program redeemed the token in time.
    pub fn not_taken(&mut self, now: Instant, flow: FlowId) {
        let Some(&key) = self.by_id.get(&flow) else { return };
        let Some(flow) = self.flows.get_mut(&key) else { return };
        match flow.state {
            State::Offered => self.leave(now, key, Cause::NotTaken, EndReason::NeverTaken),
            State::Draining(_) => self.drained_out(now, key, Cause::NotTaken),
            _ => {}
        }
        self.settle(key);
    }

    /// The program is done with the flow.
    pub fn released(&mut self, now: Instant, flow: FlowId) {
        self.done(now, flow, EndReason::Deallocated);
    }

    /// The program ended, or its lease, with the flow still open.
    pub fn died(&mut self, now: Instant, flow: FlowId) {
        self.done(now, flow, EndReason::ProgramDied);
    }

    fn done(&mut self, now: Instant, flow: FlowId, reason: EndReason) {
        let Some(&key) = self.by_id.get(&flow) else { return };
        let Some(flow) = self.flows.get_mut(&key) else { return };
        match flow.state {
            State::Offered | State::Held | State::Probing(_) => self.leave(now, key, Cause::Released, reason),
            State::Draining(_) => self.drained_out(now, key, Cause::Released),
            _ => {}
        }
        self.settle(key);
    }

    /// irmd ends the flow, whatever its state; says whether there was one.
    pub fn dealloc(&mut self, now: Instant, flow: FlowId) -> bool {
        let Some(&key) = self.by_id.get(&flow) else { return false };
        self.end(now, key, EndReason::Admin);
        self.settle(key);
        true
    }

    /// The program's count of SDUs sent, as [`Output::Count`] asked for.
    pub fn counted(&mut self, key: Key, sent: u64) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let live = matches!(flow.state, State::Offered | State::Held | State::Probing(_));
        let Some(keepalive) = &mut flow.keepalive else { return };
        let idle = keepalive.sent == sent;
        keepalive.sent = sent;
        if idle && live {
            self.out(Output::SendFlow { key, to: None, bytes: Vec::new() });
        }
    }
}

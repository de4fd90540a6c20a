//! What is kept of flows: the table of them, its indexes, their timers.

use std::time::Instant;

use super::Shim;
use super::flow::{Flow, State};
use super::output::{Filter, Key, Output};
use super::table::Phase;

impl Shim {
    pub(super) fn expire(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if flow.swap_at.is_some_and(|at| at <= now) {
            flow.swap_at = None;
            self.outputs.push_back(Output::Refilter { key, filter: Filter::Flow });
        }
        if let (Some(id), Some(keepalive)) = (flow.id, &mut flow.keepalive)
            && keepalive.next <= now
        {
            keepalive.next = now + keepalive.every;
            self.outputs.push_back(Output::Count { key, flow: id });
        }
        self.look_again(now, key);
        self.moving_timeout(now, key);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if flow.path.catching.is_some_and(|at| at <= now) {
            self.uncatch(key);
        }
        let Some(flow) = self.flows.get(&key) else { return };
        match flow.state {
            State::Opening(_) | State::Asking(_) | State::Promised(_) | State::Joining(_) => {
                self.client_timeout(now, key);
            }
            State::Knocking(_) => self.knocking_timeout(now, key),
            State::Meeting(_) => self.meeting_timeout(now, key),
            State::Refusing(_) => self.refusing_timeout(now, key),
            State::Reserving(_) | State::Waiting(_) => self.server_timeout(now, key),
            State::Probing(_) => self.probe_timeout(now, key),
            State::Flushing(_) | State::Telling(_) | State::Draining(_) => self.ending_timeout(now, key),
            State::Accepting(_) | State::Offered | State::Held | State::Over => {}
        }
    }

    pub(super) fn out(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn insert(&mut self, key: Key, flow: Flow) {
        if let Some(id) = flow.id {
            self.by_id.insert(id, key);
        }
        self.by_wire.insert(flow.ours, key);
        if let Some(request) = &flow.request {
            self.by_request.insert(request.clone(), key);
            if let Some(client) = request.client {
                self.by_client.insert((request.from.ip(), client), key);
            }
        }
        *self.tally.entry(flow.tallied).or_default() += 1;
        self.load.count_pending(&flow, None);
        self.flows.insert(key, flow);
    }

    /// After every change of a flow: its timer, its place in the tally, its removal when it is over.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        #[cfg(test)]
        self.visited.extend(flow.visited.drain(..));
        let phase = flow.state.phase();
        if !matches!(phase, Phase::Offered | Phase::Held | Phase::Probing) {
            self.uncatch(key);
            self.unpair(key);
            self.stop_moving(key);
            if let Some(flow) = self.flows.get_mut(&key) {
                flow.answer_arrived();
            }
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if phase != flow.tallied {
            *self.tally.entry(flow.tallied).or_default() -= 1;
            *self.tally.entry(phase).or_default() += 1;
            self.load.count_pending(flow, Some(flow.tallied));
            flow.tallied = phase;
        }
        let wake = if phase == Phase::Over { None } else { flow.wake() };
        if wake != flow.armed {
            if let Some(at) = flow.armed {
                self.timers.remove(&(at, key));
            }
            if let Some(at) = wake {
                self.timers.insert((at, key));
            }
            flow.armed = wake;
        }
        if phase == Phase::Over {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: Key) {
        let Some(flow) = self.flows.remove(&key) else { return };
        *self.tally.entry(flow.tallied).or_default() -= 1;
        self.by_wire.remove(&flow.ours);
        if let Some(id) = flow.id {
            self.by_id.remove(&id);
        }
        if let Some(met) = &flow.met {
            self.forget_attempt(met);
        }
        if flow.shared.is_some() && self.by_peer.get(&flow.peer) == Some(&key) {
            self.by_peer.remove(&flow.peer);
        }
        if let Some(request) = &flow.request {
            if self.by_request.get(request) == Some(&key) {
                self.by_request.remove(request);
            }
            if let Some(client) = request.client {
                let client = (request.from.ip(), client);
                if self.by_client.get(&client) == Some(&key) {
                    self.by_client.remove(&client);
                }
            }
        }
    }

    /// Closes the flow's socket, if it has one. Its port rests, unless nobody ever heard of it.
    pub(super) fn close(&mut self, now: Instant, key: Key) {
        self.end_search(now, key);
        if self.flows.get(&key).is_some_and(|flow| flow.local.is_some()) {
            self.detach(now, key, true);
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(local) = flow.local.take() else { return };
        let unheard_of = flow.request.is_some() && flow.answered.is_none();
        if !flow.is_on_listen_port() {
            self.ports.leave(local.port());
            if !unheard_of {
                self.ports.rest(now, local.port());
            }
        }
        self.uncatch(key);
        self.release_mapping(key);
        self.out(Output::Close { key });
    }
}

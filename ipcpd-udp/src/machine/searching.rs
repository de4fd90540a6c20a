//! Searches by many sockets or ports, of flows that are to meet: how many there may be, and whose sockets they are.
//!
//! What can be done to others by asking for flows is bounded here: so many searches at once, one with one member, and few in a
//! minute (`rendezvous/guesses.rs`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use proto::HostId;
use proto::rendezvous::is_ours;
use proto::shim::Request;

use super::flow::State;
use super::output::{Key, Output};
use super::rendezvous::search::{Role, SOCKETS};
use super::sides::Use;
use super::{Reason, Shim};

/// At once; so 512 sockets are the most.
const MOST: usize = 2;

/// By flow: with whom.
#[derive(Debug, Default)]
pub(super) struct Searches(BTreeMap<Key, HostId>);

impl Searches {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Shim {
    /// What an attempt wants searched, and what was found.
    pub(super) fn search_steps(&mut self, now: Instant, key: Key) {
        self.begin_search(now, key);
        let attempt = self.flows.get_mut(&key).and_then(|flow| flow.met.as_mut()).and_then(|met| met.attempt.as_mut());
        let Some(attempt) = attempt else { return };
        let mut sends = Vec::new();
        while let Some(send) = attempt.search().and_then(|search| search.poll_output()) {
            sends.push(send);
        }
        // Where the server sees the other, that receives; from anywhere else a hello may have been forged.
        let public = attempt.meeting().map(|meeting| meeting.public);
        for (socket, to, bytes) in sends {
            let from = match socket {
                Some(_)
                    if Some(to) != public && !self.member.as_mut().is_some_and(|member| member.may_guess(now, to)) =>
                {
                    None
                }
                Some(socket) => self.sides.open_for(Use::Searching(key, socket)),
                None => self.member.as_mut().is_some_and(|member| member.may_probe(now, to)).then_some(key),
            };
            match from {
                Some(key) => self.out(Output::SendFlow { key, to: Some(to), bytes }),
                None => self.counters.count(Reason::HellosHeld),
            }
        }
        self.take_found(now, key);
    }

    fn begin_search(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get(&key) else { return };
        let attempt = flow.met.as_ref().and_then(|met| met.attempt.as_ref());
        let Some((role, meeting)) = attempt.and_then(|attempt| attempt.wants_search()) else { return };
        let (peer, accepting) = (meeting.peer, flow.accepting);
        let room = self.searches.0.len() < MOST && !self.searches.0.values().any(|known| *known == peer);
        let may = room && self.member.as_mut().is_some_and(|member| role == Role::Probes || member.may_open(now));
        if may {
            self.searches.0.insert(key, peer);
        }
        self.counters.count(if may { Reason::PathsSearched } else { Reason::SearchesHeld });
        let rng = &mut self.rng;
        let attempt = self.flows.get_mut(&key).and_then(|flow| flow.met.as_mut()).and_then(|met| met.attempt.as_mut());
        if let Some(attempt) = attempt {
            attempt.begin_search(now, may, rng);
        }
        if may && role == Role::Opens {
            let range = if accepting { self.settings.sp } else { self.settings.cp };
            // Flows need ports, too.
            let sockets = SOCKETS.min(usize::from(range.1 - range.0) / 4);
            (0..sockets).for_each(|n| self.open_side(now, range, Use::Searching(key, n)));
        }
    }

    /// One of its sockets is open.
    pub(super) fn search_opened(&mut self, key: Key, socket: usize, local: SocketAddr) {
        let attempt = self.flows.get_mut(&key).and_then(|flow| flow.met.as_mut()).and_then(|met| met.attempt.as_mut());
        if let Some(search) = attempt.and_then(|attempt| attempt.search()) {
            search.opened(socket, local);
        }
    }

    /// A datagram came to one of them.
    pub(super) fn handle_search(&mut self, now: Instant, key: Key, socket: usize, from: SocketAddr, bytes: &[u8]) {
        let asked = !is_ours(bytes) && self.is_awaited(key, bytes);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(attempt) = flow.met.as_mut().and_then(|met| met.attempt.as_mut()) else { return };
        if is_ours(bytes) {
            if let Err(malformed) = attempt.handle_search(now, socket, from, bytes, &mut self.rng) {
                self.counters.count(malformed);
            }
            self.attempt_steps(now, key);
        } else if asked && attempt.take_search(socket, from) {
            self.take_found(now, key);
            self.handle_met_request(now, key, from, bytes);
        } else {
            self.counters.count(Reason::Spoofed);
        }
        self.settle(key);
    }

    /// Whether a datagram is the request that the flow waits for.
    fn is_awaited(&self, key: Key, bytes: &[u8]) -> bool {
        let introduction = self.flows.get(&key).filter(|flow| matches!(flow.state, State::Meeting(_)));
        let introduction = introduction.and_then(|flow| flow.met.as_ref()).and_then(|met| met.introduction.as_ref());
        let Ok(Request::Extended(name, extension)) = Request::decode(bytes) else { return false };
        introduction.is_some_and(|known| {
            (known.asker, known.attempt) == (extension.host, extension.client) && known.name == name
        })
    }

    /// A socket has the path: it is the flow's from now on, and the others are closed.
    fn take_found(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(attempt) = flow.met.as_mut().and_then(|met| met.attempt.as_mut()) else { return };
        let Some((socket, local)) = attempt.take_found() else { return };
        let Some(with) = self.sides.take(Use::Searching(key, socket)) else { return };
        if let Some(before) = flow.local.replace(local) {
            self.ports.leave(before.port());
            self.ports.rest(now, before.port());
        }
        self.out(Output::Swap { key, with });
        // It was the other socket's.
        self.release_mapping(key);
        self.end_search(now, key);
    }

    /// The flow has a path, or will have none.
    pub(super) fn end_search(&mut self, now: Instant, key: Key) {
        if self.searches.0.remove(&key).is_none() {
            return;
        }
        let attempt = self.flows.get_mut(&key).and_then(|flow| flow.met.as_mut()).and_then(|met| met.attempt.as_mut());
        if let Some(attempt) = attempt {
            attempt.end_search();
        }
        self.close_sides(now, |what| matches!(what, Use::Searching(of, _) if of == key));
    }
}

//! Sockets that are no flow's, each with a key of its own: those by which the order of a NAT's ports is found out, and those of
//! which one is to become a flow's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::output::{Key, Output};
use super::rendezvous::predict;
use super::{Reason, Shim};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sides {
    by_key: BTreeMap<Key, Side>,
    by_use: BTreeMap<Use, Key>,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// The n-th that asks the server where it is seen.
    Measuring(usize),
    /// The n-th that searches a path for a flow.
    Searching(Key, usize),
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Side {
    what: Use,
    port: u16,
    /// Once it is open.
    local: Option<SocketAddr>,
}

impl Sides {
    pub(super) fn has(&self, key: Key) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The flow that one of these may become the socket of.
    pub(super) fn flow_of(&self, key: Key) -> Option<Key> {
        match self.by_key.get(&key)?.what {
            Use::Searching(flow, _) => Some(flow),
            Use::Measuring(_) => None,
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.by_use.is_empty()
    }

    fn insert(&mut self, key: Key, what: Use, port: u16) {
        self.by_key.insert(key, Side { what, port, local: None });
        self.by_use.insert(what, key);
    }

    fn remove(&mut self, key: Key) -> Option<Side> {
        let side = self.by_key.remove(&key)?;
        self.by_use.remove(&side.what);
        Some(side)
    }

    /// The open one that is for this.
    pub(super) fn open_for(&self, what: Use) -> Option<Key> {
        let key = self.by_use.get(&what)?;
        self.by_key.get(key).and_then(|side| side.local).map(|_| *key)
    }

    /// It becomes a flow's, and its port with it.
    pub(super) fn take(&mut self, what: Use) -> Option<Key> {
        let key = self.open_for(what)?;
        self.remove(key).map(|_| key)
    }
}

impl Shim {
    pub(super) fn open_side(&mut self, now: Instant, range: (u16, u16), what: Use) {
        let Some(port) = self.ports.choose(now, range, &mut self.rng) else { return };
        // At once: many are opened in a row.
        self.ports.hold(port);
        let key = self.next_key();
        self.sides.insert(key, what, port);
        self.out(Output::Open { key, port, watch: true });
    }

    /// Those that are for something.
    pub(super) fn close_sides(&mut self, now: Instant, is_so: impl Fn(Use) -> bool) {
        let keys: Vec<Key> = self.sides.by_use.iter().filter(|(what, _)| is_so(**what)).map(|(_, key)| *key).collect();
        for key in keys {
            // One that is not open yet is closed as soon as it is.
            let Some(Side { port, local, .. }) = self.sides.remove(key) else { continue };
            self.ports.leave(port);
            self.ports.rest(now, port);
            if local.is_some() {
                self.out(Output::Close { key });
            }
        }
    }

    /// The socket is open; or there is none: the others do without.
    pub(super) fn side_opened(&mut self, now: Instant, key: Key, local: Option<SocketAddr>) {
        let Some(side) = self.sides.by_key.get_mut(&key) else { return };
        side.local = local;
        let Side { what, port, .. } = *side;
        if local.is_none() {
            self.ports.leave(port);
            self.sides.remove(key);
        }
        match (what, local) {
            (Use::Measuring(_), _) => self.begin_measuring(now),
            (Use::Searching(flow, n), Some(local)) => self.search_opened(flow, n, local),
            (Use::Searching(..), None) => {}
        }
    }

    /// A datagram came to it.
    pub(super) fn handle_side(&mut self, now: Instant, key: Key, from: SocketAddr, bytes: &[u8]) {
        let Some(side) = self.sides.by_key.get(&key) else { return };
        match side.what {
            Use::Searching(flow, n) => self.handle_search(now, flow, n, from, bytes),
            Use::Measuring(n) if proto::rendezvous::is_ours(bytes) => {
                if let Some(member) = &mut self.member {
                    member.handle_measuring(n, from, bytes);
                }
                self.session_steps(now);
            }
            Use::Measuring(_) => self.counters.count(Reason::Spoofed),
        }
    }

    /// The order in which ports are given is to be found out.
    pub(super) fn open_measuring(&mut self, now: Instant) {
        self.close_measuring(now);
        let range = self.settings.cp;
        (0..predict::SOCKETS).for_each(|n| self.open_side(now, range, Use::Measuring(n)));
        self.begin_measuring(now);
    }

    /// Once all are open that can be.
    fn begin_measuring(&mut self, now: Instant) {
        let waits = |side: &Side| matches!(side.what, Use::Measuring(_)) && side.local.is_none();
        if !self.sides.by_key.values().any(waits)
            && let Some(member) = &mut self.member
        {
            member.measure(now, &mut self.rng);
            self.measuring_steps(now);
        }
    }

    /// It was, or is not to be any more.
    pub(super) fn close_measuring(&mut self, now: Instant) {
        self.close_sides(now, |what| matches!(what, Use::Measuring(_)));
    }

    /// What is to be sent for that.
    pub(super) fn measuring_steps(&mut self, now: Instant) {
        for (n, to, bytes) in self.member.as_mut().map(|member| member.poll_measuring(now)).unwrap_or_default() {
            if let Some(key) = self.sides.open_for(Use::Measuring(n)) {
                self.out(Output::SendFlow { key, to: Some(to), bytes });
            }
        }
    }
}

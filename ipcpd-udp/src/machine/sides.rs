//! Sockets that are no flow's, each with a key of its own: those by which the order of a NAT's ports is found out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::output::{Key, Output};
use super::rendezvous::predict;
use super::{Reason, Shim};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sides(BTreeMap<Key, Side>);

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The n-th that asks the server where it is seen.
    Measuring(usize),
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Side {
    what: Use,
    /// Once it is open.
    local: Option<SocketAddr>,
}

impl Sides {
    pub(super) fn has(&self, key: Key) -> bool {
        self.0.contains_key(&key)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those for which something is so.
    fn keys(&self, is_so: impl Fn(Use) -> bool) -> Vec<Key> {
        self.0.iter().filter(|(_, side)| is_so(side.what)).map(|(key, _)| *key).collect()
    }

    /// The open one that is for this.
    fn open_for(&self, what: Use) -> Option<Key> {
        self.0.iter().find(|(_, side)| side.what == what && side.local.is_some()).map(|(key, _)| *key)
    }
}

impl Shim {
    fn open_side(&mut self, now: Instant, what: Use) {
        let Some(port) = self.ports.choose(now, self.settings.cp, &mut self.rng) else { return };
        let key = self.next_key();
        self.sides.0.insert(key, Side { what, local: None });
        self.out(Output::Open { key, port, watch: true });
    }

    fn close_side(&mut self, now: Instant, key: Key) {
        if let Some(local) = self.sides.0.remove(&key).and_then(|side| side.local) {
            self.ports.leave(local.port());
            self.ports.rest(now, local.port());
            self.out(Output::Close { key });
        }
    }

    /// The socket is open; or there is none: the others do without.
    pub(super) fn side_opened(&mut self, now: Instant, key: Key, local: Option<SocketAddr>) {
        let Some(side) = self.sides.0.get_mut(&key) else { return };
        side.local = local;
        let what = side.what;
        match local {
            Some(local) => self.ports.hold(local.port()),
            None => drop(self.sides.0.remove(&key)),
        }
        match what {
            Use::Measuring(_) => self.begin_measuring(now),
        }
    }

    /// A datagram came to it.
    pub(super) fn handle_side(&mut self, now: Instant, key: Key, from: SocketAddr, bytes: &[u8]) {
        let Some(side) = self.sides.0.get(&key) else { return };
        match side.what {
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
        (0..predict::SOCKETS).for_each(|n| self.open_side(now, Use::Measuring(n)));
        self.begin_measuring(now);
    }

    /// Once all are open that can be.
    fn begin_measuring(&mut self, now: Instant) {
        let waits = |side: &Side| matches!(side.what, Use::Measuring(_)) && side.local.is_none();
        if !self.sides.0.values().any(waits)
            && let Some(member) = &mut self.member
        {
            member.measure(now, &mut self.rng);
            self.measuring_steps(now);
        }
    }

    /// It was, or is not to be any more.
    pub(super) fn close_measuring(&mut self, now: Instant) {
        for key in self.sides.keys(|what| matches!(what, Use::Measuring(_))) {
            self.close_side(now, key);
        }
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

//! Shims that were asked before: which of them are extended and may be asked again quickly, how far they are, and
//! whether what they send from a flow's port arrives here.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// What is known of a shim, by the address it is asked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// An answer came from a flow's port: no middlebox of this side drops such answers.
    pub(super) direct: bool,
    /// From a request to its first answer, smoothed; zero while it is not known.
    pub(super) round_trip: Duration,
    heard: u64,
}

/// Remembers the shims that answered last, a bounded number of them.
#[derive(Debug)]
pub(super) struct Peers {
    most: usize,
    clock: u64,
    seen: HashMap<SocketAddr, Known>,
    order: VecDeque<(SocketAddr, u64)>,
}

impl Peers {
    pub(super) fn new(most: usize) -> Self {
        Self { most, clock: 0, seen: HashMap::new(), order: VecDeque::new() }
    }

    /// The shim gave an extended answer.
    pub(super) fn remember(&mut self, shim: SocketAddr) -> &mut Known {
        self.clock += 1;
        let heard = self.clock;
        self.seen.entry(shim).or_default().heard = heard;
        self.order.push_back((shim, heard));
        // Entries of `order` that were overtaken by a later one of the same shim are skipped for free.
        while self.seen.len() > self.most || self.order.len() > 2 * self.most {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.seen.get(&oldest).is_some_and(|known| known.heard == at) {
                self.seen.remove(&oldest);
            }
        }
        self.seen.entry(shim).or_default()
    }

    pub(super) fn find(&self, shim: SocketAddr) -> Option<Known> {
        self.seen.get(&shim).copied()
    }

    /// The shim answered as a classic one.
    pub(super) fn forget(&mut self, shim: SocketAddr) {
        self.seen.remove(&shim);
    }
}

impl Known {
    /// A request was answered after so long. Only first requests count: of others nobody knows which was answered.
    pub(super) fn measured(&mut self, took: Duration) {
        self.round_trip = if self.round_trip.is_zero() { took } else { (self.round_trip * 3 + took) / 4 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shim(n: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from(n), 3359))
    }

    #[test]
    fn the_least_recently_heard_is_forgotten() {
        let mut peers = Peers::new(3);
        for n in [1, 2, 3, 1, 4] {
            peers.remember(shim(n));
        }
        assert_eq!([1, 2, 3, 4].map(|n| peers.find(shim(n)).is_some()), [true, false, true, true]);
        for n in 0..10_000 {
            peers.remember(shim(n % 2));
            assert!(peers.seen.len() <= 3 && peers.order.len() <= 6);
        }
        peers.forget(shim(1));
        assert!(peers.find(shim(1)).is_none());
    }

    #[test]
    fn a_round_trip_follows_what_is_measured() {
        let mut known = Known::default();
        known.measured(Duration::from_millis(200));
        assert_eq!(known.round_trip, Duration::from_millis(200));
        for _ in 0..20 {
            known.measured(Duration::from_millis(40));
        }
        assert!((40..45).contains(&known.round_trip.as_millis()), "{known:?}");
    }
}

//! Hosts known to run an extended shim: they may be asked again quickly.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Remembers the hosts that answered last, a bounded number of them.
#[derive(Debug)]
pub(super) struct Peers {
    most: usize,
    clock: u64,
    seen: HashMap<IpAddr, u64>,
    order: VecDeque<(IpAddr, u64)>,
}

impl Peers {
    pub(super) fn new(most: usize) -> Self {
        Self { most, clock: 0, seen: HashMap::new(), order: VecDeque::new() }
    }

    /// The host gave an extended answer.
    pub(super) fn remember(&mut self, host: IpAddr) {
        self.clock += 1;
        self.seen.insert(host, self.clock);
        self.order.push_back((host, self.clock));
        // Entries of `order` that were overtaken by a later one of the same host are skipped for free.
        while self.seen.len() > self.most || self.order.len() > 2 * self.most {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.seen.get(&oldest) == Some(&at) {
                self.seen.remove(&oldest);
            }
        }
    }

    pub(super) fn knows(&self, host: IpAddr) -> bool {
        self.seen.contains_key(&host)
    }

    /// The host answered as a classic shim.
    pub(super) fn forget(&mut self, host: IpAddr) {
        self.seen.remove(&host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_least_recently_heard_is_forgotten() {
        let host = |n: u32| IpAddr::V4(Ipv4Addr::from(n));
        let mut peers = Peers::new(3);
        for n in [1, 2, 3, 1, 4] {
            peers.remember(host(n));
        }
        assert_eq!([1, 2, 3, 4].map(|n| peers.knows(host(n))), [true, false, true, true]);
        for n in 0..10_000 {
            peers.remember(host(n % 2));
            assert!(peers.seen.len() <= 3 && peers.order.len() <= 6);
        }
        peers.forget(host(1));
        assert!(!peers.knows(host(1)));
    }
}

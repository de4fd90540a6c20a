//! Local ports of flows' sockets: explicit, random, and not used again within 2 s of their end, because the
//! new owner of a port would get the old peer's datagrams.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

/// A closed port rests this long.
pub(super) const QUARANTINE: Duration = Duration::from_secs(2);

/// Ports at most in quarantine, and addresses; no descriptor is held for them.
const MOST: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Ports {
    /// How many of our sockets hold the port (the two ends of a flow to ourselves never share one).
    used: HashMap<u16, u32>,
    resting: Resting<u16>,
}

/// What is not to be used for a while, the oldest first; a bounded number of them.
#[derive(Debug)]
pub(super) struct Resting<K> {
    until: HashMap<K, Instant>,
    order: VecDeque<(K, Instant)>,
}

impl<K> Default for Resting<K> {
    fn default() -> Self {
        Self { until: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash> Resting<K> {
    /// For this long, which is to be the same each time; longer where it rests already.
    pub(super) fn rest(&mut self, now: Instant, what: K, time: Duration) {
        self.wake(now);
        if self.order.len() >= MOST {
            self.drop_first();
        }
        self.until.insert(what, now + time);
        self.order.push_back((what, now + time));
    }

    pub(super) fn has(&mut self, now: Instant, what: &K) -> bool {
        self.wake(now);
        self.until.contains_key(what)
    }

    fn wake(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(_, until)| *until <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((oldest, until)) = self.order.pop_front()
            && self.until.get(&oldest) == Some(&until)
        {
            self.until.remove(&oldest);
        }
    }
}

impl Ports {
    /// A port of the range that is neither ours nor resting; `None` when the whole range is taken.
    pub(super) fn choose(&mut self, now: Instant, (first, last): (u16, u16), rng: &mut ChaCha12Rng) -> Option<u16> {
        self.resting.wake(now);
        let len = u32::from(last) - u32::from(first) + 1;
        let start = rng.next_u32() % len;
        (0..len)
            .map(|step| first + u16::try_from((start + step) % len).expect("within the range"))
            .find(|port| !self.used.contains_key(port) && !self.resting.until.contains_key(port))
    }

    /// A socket of ours is bound to the port.
    pub(super) fn hold(&mut self, port: u16) {
        *self.used.entry(port).or_default() += 1;
    }

    /// A socket of ours on the port was closed.
    pub(super) fn leave(&mut self, port: u16) {
        if let Some(holders) = self.used.get_mut(&port) {
            *holders -= 1;
            if *holders == 0 {
                self.used.remove(&port);
            }
        }
    }

    /// Nobody shall have the port for a while.
    pub(super) fn rest(&mut self, now: Instant, port: u16) {
        self.resting.rest(now, port, QUARANTINE);
    }

    /// No socket holds a port.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.used.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_closed_port_rests_for_two_seconds() {
        let (now, range) = (origin(), (40_000, 40_001));
        let (mut ports, mut rng) = (Ports::default(), ChaCha12Rng::from_seed([1; 32]));
        let a = ports.choose(now, range, &mut rng).unwrap();
        ports.hold(a);
        let b = ports.choose(now, range, &mut rng).unwrap();
        assert_ne!(a, b);
        ports.hold(b);
        assert_eq!(ports.choose(now, range, &mut rng), None);
        ports.leave(a);
        ports.rest(now, a);
        assert_eq!(ports.choose(now + QUARANTINE - Duration::from_millis(1), range, &mut rng), None);
        assert_eq!(ports.choose(now + QUARANTINE, range, &mut rng), Some(a));
    }

    #[test]
    fn quarantine_is_bounded() {
        let now = origin();
        let mut ports = Ports::default();
        for n in 0..100_000u32 {
            ports.rest(now, (n % 60_000) as u16);
        }
        assert!(ports.resting.order.len() <= MOST && ports.resting.until.len() <= MOST);
    }
}

//! Local ports of flows' sockets: explicit, random, and not used again within 2 s of their end, because the
//! new owner of a port would get the old peer's datagrams.
//!
//! A restarted shim does not know which ports it asked from before, and answers may still come there. So they are dealt
//! out in four parts, and each start begins with a part that the last two did not use. docs/decisions/0017.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

/// A closed port rests this long.
pub(super) const QUARANTINE: Duration = Duration::from_secs(2);

/// A request of the last start may be answered for so long: the longest deadline, and what the network holds back.
const YOUNG: Duration = Duration::from_secs(70);
/// Port p is of part p modulo this.
const PARTS: u16 = 4;
/// Ports of the preferred parts that are looked at before any other will do.
const LOOKS: usize = 64;

/// Ports at most in quarantine, and addresses; no descriptor is held for them.
const MOST: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Ports {
    /// How many of our sockets hold the port (the two ends of a flow to ourselves never share one).
    used: HashMap<u16, u32>,
    resting: Resting<u16>,
    /// Where this start begins.
    part: u16,
    /// The last start's requests may be answered until then.
    young: Option<Instant>,
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
    /// Of the shim's `start`-th start.
    pub(super) fn new(start: u64) -> Self {
        let part = u16::try_from(start % u64::from(PARTS)).expect("a remainder");
        Self { part, ..Self::default() }
    }

    /// There was a start before this one, and it may have ended a moment ago.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.young = Some(now + YOUNG);
    }

    /// A port of the range that is neither ours nor resting; `None` when the whole range is taken.
    pub(super) fn choose(&mut self, now: Instant, (first, last): (u16, u16), rng: &mut ChaCha12Rng) -> Option<u16> {
        self.resting.wake(now);
        let len = u32::from(last) - u32::from(first) + 1;
        let start = rng.next_u32() % len;
        let all = (0..len).map(|step| first + u16::try_from((start + step) % len).expect("within the range"));
        let free = |port: &u16| !self.used.contains_key(port) && !self.resting.until.contains_key(port);
        for parts in self.preferred(now) {
            let mut some = all.clone().filter(|port| parts.contains(&(port % PARTS))).take(LOOKS);
            if let Some(port) = some.find(free) {
                return Some(port);
            }
        }
        all.clone().find(free)
    }

    /// In this order. A young start leaves out what the last one used, an old one what the next two will begin with; both go
    /// beyond that rather than give no flow.
    fn preferred(&self, now: Instant) -> [[u16; 2]; 2] {
        let part = |n: u16| (self.part + n) % PARTS;
        if self.young.is_some_and(|until| now < until) {
            [[part(0), part(0)], [part(1), part(1)]]
        } else {
            [[part(0), part(PARTS - 1)], [part(0), part(PARTS - 1)]]
        }
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
    use std::collections::BTreeSet;

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

    const WIDE: (u16, u16) = (20_000, 39_999);

    /// So many ports at `now`, all held.
    fn chosen(ports: &mut Ports, now: Instant, seed: u8, many: usize) -> BTreeSet<u16> {
        let mut rng = ChaCha12Rng::from_seed([seed; 32]);
        let take = |_| {
            let port = ports.choose(now, WIDE, &mut rng).unwrap();
            ports.hold(port);
            port
        };
        (0..many).map(take).collect()
    }

    #[test]
    fn a_restarted_shim_keeps_off_the_ports_of_its_last_starts() {
        let now = origin();
        // One that ran for long, and two that came right behind it; with many flows each.
        let mut old = Ports::new(8);
        old.restarted(now);
        let before = chosen(&mut old, now + YOUNG, 1, 4000);
        let mut seen = before.clone();
        for start in [9, 10] {
            let mut young = Ports::new(start);
            young.restarted(now + YOUNG);
            let its = chosen(&mut young, now + YOUNG, start as u8, 2000);
            assert!(its.is_disjoint(&seen), "start {start}");
            seen.extend(its);
        }
        // Spread over all that it may use, and over the range.
        let halves = before.iter().filter(|port| **port < 30_000).count();
        assert!((1800..2200).contains(&halves) && before.iter().any(|port| port % 4 == 3), "{halves}");
    }

    #[test]
    fn every_port_is_used_before_there_is_none() {
        let now = origin();
        for young in [false, true] {
            let mut ports = Ports::new(3);
            if young {
                ports.restarted(now);
            }
            assert_eq!(chosen(&mut ports, now, 1, 20_000).len(), 20_000);
            assert_eq!(ports.choose(now, WIDE, &mut ChaCha12Rng::from_seed([1; 32])), None);
        }
        // A range may have no port of a part.
        let mut ports = Ports::new(1);
        assert_eq!(ports.choose(now, (40_000, 40_000), &mut ChaCha12Rng::from_seed([1; 32])), Some(40_000));
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

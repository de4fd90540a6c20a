//! What is known of the path: its bandwidth, its round trip, what it loses by chance, and how much may be under way.

use std::time::{Duration, Instant};

/// A round trip is taken for the path's own for so long without a shorter or equal one.
const MIN_RTT_FOR: Duration = Duration::from_secs(10);
/// And is looked for, if it was not seen for so long.
pub(super) const PROBE_RTT_AFTER: Duration = Duration::from_secs(5);
/// Bytes (times the longest packet) of rounds without a queue that chance is told from, older ones counting less.
const CHANCE_MEMORY: f64 = 4000.0;
/// Before anything was seen, as many packets are taken to have arrived.
const CHANCE_PRIOR: f64 = 100.0;
/// No path is taken to lose more by chance.
const CHANCE_MOST: f64 = 0.4;

/// Rounds after which a heap is half forgotten.
const HEAP_ROUNDS: u64 = 5;

/// The greatest delivery rate of this cycle of probing and the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bandwidth {
    cycles: [f64; 2],
}

impl Bandwidth {
    pub(crate) fn seen(&mut self, rate: f64) {
        self.cycles[1] = self.cycles[1].max(rate);
    }

    pub(crate) fn next_cycle(&mut self) {
        // A cycle in which nothing was measured says nothing.
        if self.cycles[1] > 0.0 {
            self.cycles = [self.cycles[1], 0.0];
        }
    }

    /// Bytes per second; 0: not known.
    pub(crate) fn get(&self) -> f64 {
        self.cycles[0].max(self.cycles[1])
    }
}

/// The path's round trip without a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MinRtt {
    known: Option<(Duration, Instant)>,
    /// The least since the path was last seen empty.
    recent: Option<(Duration, Instant)>,
}

impl MinRtt {
    pub(crate) fn seen(&mut self, now: Instant, rtt: Duration) {
        self.recent = match self.recent {
            // As good as seen again: probing for a few per cent would cost more than they are worth.
            Some((least, at)) if rtt <= least + least / 16 && !over(now, at, PROBE_RTT_AFTER) => {
                Some((least.min(rtt), now))
            }
            Some((least, at)) if rtt >= least && !over(now, at, PROBE_RTT_AFTER) => Some((least, at)),
            _ => Some((rtt, now)),
        };
        if let Some(recent) = self.recent
            && self.known.is_none_or(|(known, at)| recent.0 <= known || over(now, at, MIN_RTT_FOR))
        {
            self.known = Some(recent);
        }
    }

    /// Whether it has not been seen for long.
    pub(crate) fn doubtful(&self, now: Instant) -> bool {
        self.recent.is_some_and(|(_, at)| over(now, at, PROBE_RTT_AFTER))
    }

    /// The path was just seen without this sender's queue.
    pub(crate) fn looked(&mut self, now: Instant) {
        if let Some((_, at)) = &mut self.recent {
            *at = now;
        }
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        self.known.map(|(rtt, _)| rtt)
    }

    /// Whether a packet with this round trip has stood in a queue. Less than an eighth is jitter.
    pub(crate) fn queued(&self, rtt: Duration) -> bool {
        self.get().is_some_and(|least| rtt > least + least / 8 + Duration::from_millis(1))
    }
}

fn over(now: Instant, since: Instant, time: Duration) -> bool {
    now.saturating_duration_since(since) > time
}

/// What the path loses though nothing stands in its queues.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chance {
    lost: f64,
    all: f64,
}

impl Chance {
    /// A round without a queue: packets lost, of all.
    pub(crate) fn seen(&mut self, lost: f64, all: f64) {
        let keep = 1.0 - (all / CHANCE_MEMORY).min(1.0);
        self.lost = self.lost * keep + lost;
        self.all = self.all * keep + all;
    }

    /// The share that is lost.
    pub(crate) fn share(&self) -> f64 {
        (self.lost / (self.all + CHANCE_PRIOR)).min(CHANCE_MOST)
    }

    /// Of `packets`, how many lost ones are no sign of anything if a `share` more than by chance is not: the mean and one and a half
    /// standard deviations.
    pub(crate) fn allows(&self, packets: f64, share: f64) -> f64 {
        let mean = packets * (self.share() + share);
        mean + 1.5 * (packets * (self.share() + 0.005)).sqrt()
    }
}

/// Acknowledgements that come in heaps, as over wireless links: how much came beyond the rate, so much more has to be under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    since: Instant,
    delivered: u64,
    /// The most in the last rounds, and in those before.
    most: [u64; 2],
    round: u64,
}

impl Heap {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, delivered: 0, most: [0; 2], round: 0 }
    }

    /// Nothing was under way.
    pub(crate) fn again(&mut self, now: Instant) {
        (self.since, self.delivered) = (now, 0);
    }

    /// `acked` bytes were confirmed, in this round, at this rate.
    pub(crate) fn seen(&mut self, now: Instant, round: u64, acked: u64, rate: f64, most: u64) {
        let passed = |since| now.saturating_duration_since(since).as_secs_f64();
        if self.delivered as f64 <= rate * passed(self.since) {
            self.again(now);
        }
        if round >= self.round + HEAP_ROUNDS {
            (self.most, self.round) = ([self.most[1], 0], round);
        }
        self.delivered += acked;
        let extra = self.delivered as f64 - rate * passed(self.since);
        self.most[1] = self.most[1].max((extra.max(0.0) as u64).min(most));
    }

    pub(crate) fn get(&self) -> u64 {
        self.most[0].max(self.most[1])
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::moment;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn bandwidth_is_forgotten_after_two_cycles() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.seen(9.0);
        bandwidth.next_cycle();
        bandwidth.next_cycle();
        assert_eq!(bandwidth.get(), 9.0, "nothing was measured");
        bandwidth.seen(3.0);
        bandwidth.next_cycle();
        assert_eq!(bandwidth.get(), 3.0);
    }

    #[test]
    fn a_round_trip_that_is_nearly_seen_again_is_not_looked_for() {
        let (start, mut rtt) = (moment(), MinRtt::default());
        for second in 0..60u32 {
            rtt.seen(start + MS * 1000 * second, MS * if second == 0 { 100 } else { 103 });
            assert!(!rtt.doubtful(start + MS * 1000 * second));
        }
        assert_eq!(rtt.get(), Some(MS * 100));
        assert!(rtt.queued(MS * 114) && !rtt.queued(MS * 113));
    }

    #[test]
    fn a_path_that_became_longer_is_believed_in_the_end() {
        let (start, mut rtt) = (moment(), MinRtt::default());
        let mut doubted = false;
        rtt.seen(start, MS * 10);
        for tenth in 1..200u32 {
            let now = start + MS * 100 * tenth;
            doubted |= rtt.doubtful(now);
            rtt.seen(now, MS * 50);
        }
        assert!(doubted);
        assert_eq!(rtt.get(), Some(MS * 50));
    }

    #[test]
    fn chance_is_told_from_more() {
        let mut chance = Chance::default();
        for _ in 0..50 {
            chance.seen(10.0, 340.0);
        }
        assert!((0.027..0.031).contains(&chance.share()), "{}", chance.share());
        let allowed = chance.allows(340.0, 0.02);
        assert!((18.0..26.0).contains(&allowed), "{allowed}");
        // A path that gets better is believed.
        for _ in 0..50 {
            chance.seen(0.0, 340.0);
        }
        assert!(chance.share() < 0.001);
    }
}

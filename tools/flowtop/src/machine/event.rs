//! What was refused lately, and the pace of allocations.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Refusals that are kept, the latest.
pub const MAX_REFUSALS: usize = 1_000;

/// Over how long allocations per second are counted.
const WINDOW: Duration = Duration::from_secs(5);

/// Readings of the pace that are kept: those of the window, at the shortest interval.
const MAX_READINGS: usize = 64;

/// A flow that was not allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Counts up in each life of irmd; of one that was seen already nothing is taken.
    pub number: u64,
    /// Before it was read.
    pub age: Duration,
    /// The name that was asked for.
    pub name: String,
    /// Who asked: a program of this host as `oping (4711)`, or an address.
    pub asker: String,
    /// Why, in a word or two.
    pub reason: String,
    /// More about it; may be empty.
    pub words: String,
}

/// The latest refusals and the pace.
#[derive(Debug, Default)]
pub struct Events {
    /// Whose numbers `last` is one of.
    irmd: u32,
    last: u64,
    refusals: VecDeque<(Instant, Refusal)>,
    missed: u64,
    /// irmd's own counts of allocations and refusals, some seconds back.
    readings: VecDeque<(Instant, u64, u64)>,
}

impl Events {
    /// irmd of this process begins to tell; one that was started anew counts its events from the beginning.
    pub fn begin(&mut self, irmd: u32) {
        if self.irmd != irmd {
            self.irmd = irmd;
            self.last = 0;
        }
    }

    /// Takes a refusal.
    pub fn take(&mut self, now: Instant, refusal: Refusal) {
        if refusal.number <= self.last {
            return;
        }
        self.last = refusal.number;
        if self.refusals.len() == MAX_REFUSALS {
            self.refusals.pop_back();
        }
        self.refusals.push_front((now.checked_sub(refusal.age).unwrap_or(now), refusal));
    }

    /// So many events were lost, because this end was too slow.
    pub fn miss(&mut self, count: u64) {
        self.missed = self.missed.saturating_add(count);
    }

    /// How many were lost.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The latest refusals, the latest first.
    pub fn refusals(&self) -> impl ExactSizeIterator<Item = (Instant, &Refusal)> {
        self.refusals.iter().map(|(at, refusal)| (*at, refusal))
    }

    /// Takes irmd's counts of flows that were allocated and refused since its start.
    pub fn count(&mut self, now: Instant, allocated: u64, refused: u64) {
        // Counts that went back are those of another irmd.
        if self.readings.back().is_some_and(|(_, a, r)| allocated < *a || refused < *r) {
            self.readings.clear();
        }
        self.readings.push_back((now, allocated, refused));
        // One that is older than the window stays, so that there is something to compare with.
        while self.readings.len() > MAX_READINGS
            || self.readings.get(1).is_some_and(|(at, ..)| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.readings.pop_front();
        }
    }

    /// Allocations and refusals per second, over the last seconds.
    pub fn per_second(&self) -> (f32, f32) {
        let (Some((from, a, r)), Some((to, b, s))) = (self.readings.front(), self.readings.back()) else {
            return (0.0, 0.0);
        };
        let seconds = to.saturating_duration_since(*from).as_secs_f32();
        if seconds < 0.01 { (0.0, 0.0) } else { ((b - a) as f32 / seconds, (s - r) as f32 / seconds) }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a clock to begin with")]
mod tests {
    use super::*;

    fn refusal(number: u64) -> Refusal {
        let text = String::new();
        let (name, asker, reason, words) = (text.clone(), text.clone(), text.clone(), text);
        Refusal { number, age: Duration::from_secs(1), name, asker, reason, words }
    }

    fn numbers(events: &Events) -> Vec<u64> {
        events.refusals().map(|(_, refusal)| refusal.number).collect()
    }

    #[test]
    fn the_latest_comes_first_and_none_twice() {
        let (mut events, now) = (Events::default(), Instant::now());
        events.begin(7);
        [1, 2, 3, 3].into_iter().for_each(|number| events.take(now, refusal(number)));
        events.begin(7);
        [2, 3, 4].into_iter().for_each(|number| events.take(now, refusal(number)));
        assert_eq!(numbers(&events), [4, 3, 2, 1]);
        events.begin(8);
        events.take(now, refusal(1));
        assert_eq!(numbers(&events), [1, 4, 3, 2, 1]);
    }

    #[test]
    fn a_flood_is_bounded() {
        let (mut events, begin) = (Events::default(), Instant::now());
        for number in 1..10_000_u64 {
            events.take(begin, refusal(number));
            events.count(begin + Duration::from_millis(number), number, 0);
        }
        assert_eq!(events.refusals().len(), MAX_REFUSALS);
        assert!(events.readings.len() <= MAX_READINGS);
    }

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let (mut events, begin) = (Events::default(), Instant::now());
        for second in 0..20_u64 {
            events.count(begin + Duration::from_secs(second), second * 10 + second.pow(2), second);
        }
        let (allocated, refused) = events.per_second();
        assert!((40.0..=46.0).contains(&allocated) && (0.99..1.01).contains(&refused), "{allocated} {refused}");
        events.count(begin + Duration::from_secs(20), 3, 0);
        assert_eq!(events.per_second(), (0.0, 0.0), "another irmd");
    }
}

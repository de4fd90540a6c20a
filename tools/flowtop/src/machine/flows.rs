//! All flows of the host, each with its last minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proto::FlowId;

use super::flow::{Counts, Facts, Rates, State};
use super::ring::{Ring, Slot};

/// Flows that are followed; a host with more shows the first so many. Each costs about 1.5 kB.
pub const MAX_FLOWS: usize = 65_536;

/// A reading that comes this soon after the last slot's end belongs to the next slot: timers are not exact.
const SLOT_AT_LEAST: Duration = Duration::from_millis(900);

/// One flow.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// None until irmd said.
    pub facts: Option<Box<Facts>>,
    /// The last reading.
    pub counts: Counts,
    /// Between the last two readings.
    pub rates: Rates,
    /// The last minute.
    pub ring: Ring,
    /// The reading at the end of the last slot.
    base: Counts,
    /// The generation that saw it last.
    seen: u64,
}

impl Tracked {
    fn new(counts: Counts) -> Self {
        Self { facts: None, counts, rates: Rates::default(), ring: Ring::default(), base: counts, seen: 0 }
    }
}

/// What all flows move together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Of all flows.
    pub rates: Rates,
    /// Flows by [`State`]: pending, allocated, ending.
    pub states: [usize; 3],
    /// Flows that are not followed, because there are more than [`MAX_FLOWS`].
    pub beyond: usize,
}

/// The flows.
#[derive(Debug, Default)]
pub struct Flows {
    all: Vec<Tracked>,
    at: HashMap<FlowId, usize>,
    generation: u64,
    read: Option<Instant>,
    slot_end: Option<Instant>,
    totals: Totals,
    history: Ring,
}

impl Flows {
    /// All of them, in no order; [`order`](super::order) has places in here, until the next reading.
    pub fn all(&self) -> &[Tracked] {
        &self.all
    }

    /// One of them.
    pub fn get(&self, id: FlowId) -> Option<&Tracked> {
        self.at.get(&id).map(|at| &self.all[*at])
    }

    /// What they move together.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The last minute of all together.
    pub fn history(&self) -> &Ring {
        &self.history
    }

    /// Takes a reading of all flows: those not in it are gone. The ids of which no facts are known.
    pub fn read(&mut self, now: Instant, counts: &[Counts]) -> Vec<FlowId> {
        self.generation += 1;
        let seconds = self.read.map(|before| now.saturating_duration_since(before).as_secs_f32());
        self.read = Some(now);
        let slot = self.slot(now);
        self.totals = Totals { beyond: counts.len().saturating_sub(MAX_FLOWS), ..Totals::default() };
        let mut unknown = Vec::new();
        for counts in &counts[..counts.len().min(MAX_FLOWS)] {
            let at = *self.at.entry(counts.id).or_insert_with(|| {
                self.all.push(Tracked::new(*counts));
                self.all.len() - 1
            });
            let flow = &mut self.all[at];
            flow.take(counts, seconds, slot);
            flow.seen = self.generation;
            if flow.facts.is_none() {
                unknown.push(counts.id);
            }
            self.totals.add(flow);
        }
        if let Some((_, times)) = slot {
            let Rates { sent_bytes: sent, received_bytes: received, .. } = self.totals.rates;
            self.history.push(Slot { sent, received, rtt_us: 0 }, times);
        }
        self.forget();
        unknown
    }

    /// The length in seconds of the slot that ends now, and how many slots it fills; none while it is too young.
    fn slot(&mut self, now: Instant) -> Option<(f32, usize)> {
        let begun = *self.slot_end.get_or_insert(now);
        let long = now.saturating_duration_since(begun);
        if long < SLOT_AT_LEAST {
            return None;
        }
        self.slot_end = Some(now);
        Some((long.as_secs_f32(), (long.as_secs_f32().round() as usize).max(1)))
    }

    /// Drops those that the last reading did not have.
    fn forget(&mut self) {
        let mut at = 0;
        while at < self.all.len() {
            if self.all[at].seen == self.generation {
                at += 1;
                continue;
            }
            self.at.remove(&self.all[at].counts.id);
            self.all.swap_remove(at);
            if let Some(moved) = self.all.get(at) {
                self.at.insert(moved.counts.id, at);
            }
        }
    }

    /// Nothing is known of what moves now: rates of before would be read as rates of now.
    pub fn forget_rates(&mut self) {
        self.totals.rates = Rates::default();
        self.all.iter_mut().for_each(|flow| flow.rates = Rates::default());
    }

    /// Takes what irmd says of a flow; of one that is gone already, nothing.
    pub fn learn(&mut self, facts: Facts) {
        if let Some(at) = self.at.get(&facts.id) {
            self.all[*at].facts = Some(Box::new(facts));
        }
    }
}

impl Tracked {
    fn take(&mut self, counts: &Counts, seconds: Option<f32>, slot: Option<(f32, usize)>) {
        // Two readings in the same instant tell no rate.
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.001) {
            self.rates = Rates::between(&self.counts, counts, seconds);
        }
        if let Some((long, times)) = slot {
            let rates = Rates::between(&self.base, counts, long);
            let slot = Slot { sent: rates.sent_bytes, received: rates.received_bytes, rtt_us: counts.rtt_us };
            self.ring.push(slot, times);
            self.base = *counts;
        }
        self.counts = *counts;
    }
}

impl Totals {
    fn add(&mut self, flow: &Tracked) {
        let (all, one) = (&mut self.rates, &flow.rates);
        all.sent_sdus += one.sent_sdus;
        all.sent_bytes += one.sent_bytes;
        all.received_sdus += one.received_sdus;
        all.received_bytes += one.received_bytes;
        match flow.counts.state {
            State::Pending => self.states[0] += 1,
            State::Allocated => self.states[1] += 1,
            State::Ending => self.states[2] += 1,
            State::Ended => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a clock to begin with")]
mod tests {
    use super::*;

    fn counts(id: u64, sent_bytes: u64) -> Counts {
        Counts { id: FlowId(id), sent_bytes, ..Counts::default() }
    }

    fn after(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    #[test]
    fn rates_come_from_two_readings() {
        let (mut flows, begin) = (Flows::default(), Instant::now());
        assert_eq!(flows.read(begin, &[counts(1, 1_000), counts(2, 0)]), [FlowId(1), FlowId(2)]);
        flows.learn(Facts::unknown(FlowId(1), begin));
        assert_eq!(flows.read(after(begin, 500), &[counts(1, 2_000), counts(2, 0)]), [FlowId(2)]);
        let flow = flows.get(FlowId(1)).unwrap();
        assert_eq!(flow.rates.sent_bytes, 2_000.0);
        assert!(flow.ring.is_empty(), "half a second is no slot");
        flows.read(after(begin, 1_000), &[counts(1, 5_000), counts(2, 0)]);
        let flow = flows.get(FlowId(1)).unwrap();
        assert_eq!((flow.rates.sent_bytes, flow.ring.last(9).next().unwrap().sent), (6_000.0, 4_000.0));
        assert_eq!(flows.totals().rates.sent_bytes, 6_000.0);
        assert_eq!(flows.totals().states, [0, 2, 0]);
    }

    #[test]
    fn a_long_interval_fills_its_seconds() {
        let (mut flows, begin) = (Flows::default(), Instant::now());
        flows.read(begin, &[counts(1, 0)]);
        flows.read(after(begin, 5_020), &[counts(1, 5_020)]);
        let slots: Vec<f32> = flows.get(FlowId(1)).unwrap().ring.last(60).map(|slot| slot.sent).collect();
        assert_eq!(slots.len(), 5);
        assert!(slots.iter().all(|sent| (sent - 1_000.0).abs() < 1.0));
    }

    #[test]
    fn flows_that_are_not_read_are_gone() {
        let (mut flows, begin) = (Flows::default(), Instant::now());
        flows.read(begin, &[counts(1, 0), counts(2, 0), counts(3, 0), counts(4, 0)]);
        flows.read(begin, &[counts(2, 0), counts(4, 7)]);
        assert!(flows.get(FlowId(1)).is_none() && flows.get(FlowId(3)).is_none());
        assert_eq!(flows.get(FlowId(4)).unwrap().counts.sent_bytes, 7);
        assert_eq!(flows.all().len(), 2);
        flows.learn(Facts::unknown(FlowId(1), begin));
        assert_eq!(flows.all().len(), 2);
    }

    #[test]
    fn more_flows_than_are_followed_are_counted() {
        let (mut flows, begin) = (Flows::default(), Instant::now());
        let many: Vec<Counts> = (0..MAX_FLOWS as u64 + 5).map(|id| counts(id, 0)).collect();
        flows.read(begin, &many);
        assert_eq!((flows.all().len(), flows.totals().beyond), (MAX_FLOWS, 5));
    }
}

//! What happened to flows lately: refusals by their reason, and how many allocations there are.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proto::FlowId;

/// Refusals that are kept, the latest.
pub const MAX_REFUSALS: usize = 1_000;

/// Reasons that are told apart: irmd has about thirty.
const MAX_REASONS: usize = 64;

/// Over how long allocations per second are counted.
const WINDOW: Duration = Duration::from_secs(5);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A flow was allocated.
    Allocated,
    /// A flow was refused, or never came to be.
    Refused,
    /// A flow ended.
    Ended,
    /// Something else on a flow's way.
    Other,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Counts up; of one that was seen already nothing is taken.
    pub number: u64,
    /// What it is about.
    pub kind: Kind,
    /// When, in microseconds of unix time.
    pub unix_us: u64,
    /// Before it was read.
    pub age: Duration,
    /// 0: it never was a flow.
    pub flow: FlowId,
    /// The name that was allocated to.
    pub name: String,
    /// Which layer, where that was known.
    pub layer: String,
    /// This host's program was asked; else it asked.
    pub accepting: bool,
    /// The program of this host, as `oping (4711)`.
    pub process: String,
    /// Who asked or was asked, on another host.
    pub peer: String,
    /// Why, in a word or two: what refusals are counted by.
    pub reason: String,
    /// Why, in words.
    pub words: String,
}

/// The latest events.
#[derive(Debug, Default)]
pub struct Events {
    last_number: Option<u64>,
    refusals: VecDeque<(Instant, Event)>,
    reasons: BTreeMap<String, u64>,
    /// When something was allocated and refused: (second since the first event, allocations, refusals).
    lately: VecDeque<(Instant, u32, u32)>,
    missed: u64,
    refused: u64,
}

impl Events {
    /// Takes an event.
    pub fn take(&mut self, now: Instant, event: Event) {
        if self.last_number.is_some_and(|last| event.number != 0 && event.number <= last) {
            return;
        }
        self.last_number = Some(event.number.max(self.last_number.unwrap_or(0)));
        let (allocated, refused) = (event.kind == Kind::Allocated, event.kind == Kind::Refused);
        if event.age < WINDOW && (allocated || refused) {
            self.count(now, u32::from(allocated), u32::from(refused));
        }
        if refused {
            self.refused += 1;
            if self.reasons.len() < MAX_REASONS || self.reasons.contains_key(&event.reason) {
                *self.reasons.entry(event.reason.clone()).or_default() += 1;
            }
            if self.refusals.len() == MAX_REFUSALS {
                self.refusals.pop_back();
            }
            self.refusals.push_front((now.checked_sub(event.age).unwrap_or(now), event));
        }
    }

    fn count(&mut self, now: Instant, allocated: u32, refused: u32) {
        match self.lately.back_mut() {
            // A tenth of a second is fine enough, and bounds the queue.
            Some((at, a, r)) if now.saturating_duration_since(*at) < Duration::from_millis(100) => {
                *a = a.saturating_add(allocated);
                *r = r.saturating_add(refused);
            }
            _ => self.lately.push_back((now, allocated, refused)),
        }
        while self.lately.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) > WINDOW) {
            self.lately.pop_front();
        }
    }

    /// So many events were lost, because this end was too slow.
    pub fn miss(&mut self, count: u64) {
        self.missed = self.missed.saturating_add(count);
    }

    /// irmd was started anew, and counts its events from the beginning.
    pub fn begin_anew(&mut self) {
        self.last_number = None;
    }

    /// How many were lost.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Allocations and refusals per second, over the last seconds.
    pub fn per_second(&self, now: Instant) -> (f32, f32) {
        let recent = self.lately.iter().filter(|(at, ..)| now.saturating_duration_since(*at) <= WINDOW);
        let (allocated, refused) = recent.fold((0_u64, 0_u64), |(a, r), (_, allocated, refused)| {
            (a + u64::from(*allocated), r + u64::from(*refused))
        });
        (allocated as f32 / WINDOW.as_secs_f32(), refused as f32 / WINDOW.as_secs_f32())
    }

    /// The latest refusals, the latest first.
    pub fn refusals(&self) -> impl ExactSizeIterator<Item = (Instant, &Event)> {
        self.refusals.iter().map(|(at, event)| (*at, event))
    }

    /// How often each reason was given, the most frequent first.
    pub fn reasons(&self) -> Vec<(&str, u64)> {
        let mut reasons: Vec<_> = self.reasons.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        reasons
    }

    /// All refusals that were heard of.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn event(number: u64, kind: Kind, reason: &str) -> Event {
        Event {
            number,
            kind,
            unix_us: 0,
            age: Duration::ZERO,
            flow: FlowId(0),
            name: "echo".into(),
            layer: String::new(),
            accepting: false,
            process: String::new(),
            peer: String::new(),
            reason: reason.into(),
            words: String::new(),
        }
    }

    #[test]
    fn refusals_are_counted_by_reason_and_the_latest_come_first() {
        let (mut events, now) = (Events::default(), Instant::now());
        for (number, reason) in [(1, "unknown name"), (2, "refused"), (3, "refused"), (3, "again")] {
            events.take(now, event(number, Kind::Refused, reason));
        }
        events.take(now, event(4, Kind::Allocated, ""));
        assert_eq!(events.reasons(), [("refused", 2), ("unknown name", 1)]);
        assert_eq!(events.refusals().map(|(_, event)| event.number).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!((events.refused(), events.per_second(now)), (3, (0.2, 0.6)));
        assert_eq!(events.per_second(now + Duration::from_secs(6)), (0.0, 0.0));
    }

    #[test]
    fn a_flood_is_bounded() {
        let (mut events, begin) = (Events::default(), Instant::now());
        for number in 1..10_000_u64 {
            let now = begin + Duration::from_millis(number);
            events.take(now, event(number, Kind::Refused, &format!("reason {number}")));
        }
        assert_eq!((events.refusals().len(), events.reasons().len()), (MAX_REFUSALS, MAX_REASONS));
        assert!(events.lately.len() <= 52, "{}", events.lately.len());
    }

    #[test]
    fn an_irmd_that_was_restarted_counts_anew() {
        let (mut events, now) = (Events::default(), Instant::now());
        events.take(now, event(50, Kind::Refused, "refused"));
        events.begin_anew();
        events.take(now, event(1, Kind::Refused, "refused"));
        assert_eq!(events.refused(), 2);
    }
}

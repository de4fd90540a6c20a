//! What was carried and dropped, counted where it happens and read where it is shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::machine::routes::{Over, Side};
use crate::said::rule::Dropped;

/// Classes of waiting times: class n is below 2^n microseconds, the last is without bound.
const CLASSES: usize = 24;
/// One more than the highest number of [`Over`].
const OVERS: usize = 8;

/// Counters of one engine.
#[derive(Debug, Default)]
pub(super) struct Tally {
    datagrams: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    dropped: [AtomicU64; Dropped::ALL.len()],
    opened: AtomicU64,
    over: [AtomicU64; OVERS],
    /// How much longer than wished datagrams waited, by class.
    late: [AtomicU64; CLASSES],
}

/// Their values at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams carried: from players, from servers.
    pub datagrams: [u64; 2],
    /// Their bytes.
    pub bytes: [u64; 2],
    /// Datagrams dropped, at the place of each reason's number.
    pub dropped: [u64; Dropped::ALL.len()],
    /// Players that came.
    pub opened: u64,
    /// Players that went, at the place of each reason's number.
    pub over: [u64; OVERS],
    /// Datagrams that waited, by how much longer than wished: class n is below 2^n microseconds.
    pub late: [u64; CLASSES],
}

impl Tally {
    /// A datagram from this side was carried.
    pub(super) fn carried(&self, from: Side, bytes: usize) {
        self.datagrams[from as usize].fetch_add(1, Ordering::Relaxed);
        self.bytes[from as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A datagram was dropped.
    pub(super) fn dropped(&self, why: Dropped) {
        self.dropped[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A player came.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A player went.
    pub(super) fn over(&self, why: Over) {
        self.over[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A datagram waited for so much longer than wished.
    pub(super) fn late(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        let class = (u64::BITS - micros.leading_zeros()) as usize;
        self.late[class.min(CLASSES - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// All of it.
    pub(super) fn read(&self) -> Counts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            datagrams: self.datagrams.each_ref().map(value),
            bytes: self.bytes.each_ref().map(value),
            dropped: self.dropped.each_ref().map(value),
            opened: value(&self.opened),
            over: self.over.each_ref().map(value),
            late: self.late.each_ref().map(value),
        }
    }
}

impl Counts {
    /// Those of another engine, too.
    pub fn add(&mut self, other: &Self) {
        let both =
            |mine: &mut [u64], theirs: &[u64]| mine.iter_mut().zip(theirs).for_each(|(mine, more)| *mine += more);
        both(&mut self.datagrams, &other.datagrams);
        both(&mut self.bytes, &other.bytes);
        both(&mut self.dropped, &other.dropped);
        both(&mut self.over, &other.over);
        both(&mut self.late, &other.late);
        self.opened += other.opened;
    }

    /// Such a part of the datagrams that waited did so for no longer than so many microseconds more than wished; `None`: none
    /// waited.
    pub fn late_below(&self, part: f64) -> Option<u64> {
        let all: u64 = self.late.iter().sum();
        let wanted = (all as f64 * part).ceil() as u64;
        let mut so_far = 0;
        let class = self.late.iter().position(|count| {
            so_far += count;
            so_far >= wanted
        });
        class.filter(|_| all > 0).map(|class| 1 << class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_those_who_waited_are_found() {
        assert_eq!(Counts::default().late_below(0.5), None);
        let tally = Tally::default();
        for micros in [0, 1, 5, 5, 900] {
            tally.late(Duration::from_micros(micros));
        }
        let mut counts = tally.read();
        assert_eq!([0.2, 0.4, 0.5, 0.8, 0.99].map(|part| counts.late_below(part).unwrap()), [1, 2, 8, 8, 1024]);
        counts.add(&tally.read());
        assert_eq!(counts.late.iter().sum::<u64>(), 10);
    }
}

//! When it pays to look for a local peer's SDU a few times more before sleeping.
//!
//! Two programs that talk within a host answer each other faster than the kernel puts one to sleep and wakes it again on
//! another processor, which is most of a local round trip. Looking again costs processor time for nothing where the peer
//! takes its time, or waits for this very processor: so each vain search makes the next less likely, down to a rare trial.

use std::sync::atomic::{AtomicU32, Ordering};

/// Looks of one search. One costs 0.1 to 0.3 µs: together less than two sleeps and wake-ups.
const LOOKS: u32 = 100;
/// What the searches' outcomes add up to, at most. Each vain one takes one off, each that found something adds two.
const MOST: u32 = 8;
/// At a score of 0, one receive of so many searches.
const TRIAL: u32 = 64;

/// How a flow's searches went. Races between threads that receive at once lose a count, nothing else.
#[derive(Debug)]
pub(crate) struct Spin {
    score: AtomicU32,
    receives: AtomicU32,
}

impl Spin {
    /// On a machine with one processor, the peer runs while this program sleeps and not else.
    pub(crate) fn new(processors: usize) -> Self {
        let score = if processors > 1 { MOST / 2 } else { u32::MAX };
        Self { score: AtomicU32::new(score), receives: AtomicU32::new(0) }
    }

    /// How often to look before the next sleep.
    pub(crate) fn looks(&self) -> u32 {
        match self.score.load(Ordering::Relaxed) {
            u32::MAX => 0,
            0 if self.receives.fetch_add(1, Ordering::Relaxed) % TRIAL != TRIAL - 1 => 0,
            _ => LOOKS,
        }
    }

    /// A search found an SDU, though not at its first look.
    pub(crate) fn found(&self) {
        let score = self.score.load(Ordering::Relaxed);
        self.score.store((score + 2).min(MOST), Ordering::Relaxed);
    }

    /// A search was in vain.
    pub(crate) fn vain(&self) {
        let score = self.score.load(Ordering::Relaxed);
        self.score.store(score.saturating_sub(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vain_searches_become_rare_and_found_ones_bring_them_back() {
        let spin = Spin::new(2);
        for _ in 0..MOST / 2 {
            assert_eq!(spin.looks(), LOOKS);
            spin.vain();
        }
        let searches = (0..10 * TRIAL).filter(|_| spin.looks() > 0).inspect(|_| spin.vain()).count();
        assert_eq!(searches, 10);
        spin.found();
        assert_eq!(spin.looks(), LOOKS);
    }

    #[test]
    fn one_processor_never_searches() {
        let spin = Spin::new(1);
        assert!((0..10 * TRIAL).all(|_| spin.looks() == 0));
    }
}

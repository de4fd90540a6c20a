//! How fast one player may send.

use std::time::{Duration, Instant};

/// A token bucket that holds a second's worth, kept as the instant at which it will be full.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval: Duration,
    full: Option<Instant>,
}

impl Pace {
    /// So many a second.
    pub fn new(rate: u32) -> Self {
        Self { interval: Duration::from_secs(1) / rate.max(1), full: None }
    }

    /// Whether one more is not too fast.
    pub fn take(&mut self, now: Instant) -> bool {
        let full = self.full.map_or(now, |full| full.max(now)) + self.interval;
        let slow = full <= now + Duration::from_secs(1);
        if slow {
            self.full = Some(full);
        }
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_at_once_and_then_the_rate() {
        #[expect(clippy::disallowed_methods, reason = "a machine's time begins somewhere")]
        let start = Instant::now();
        let mut pace = Pace::new(50);
        assert_eq!((0..100).filter(|_| pace.take(start)).count(), 50);
        let later = |ms| start + Duration::from_millis(ms);
        assert!(!pace.take(later(19)) && pace.take(later(20)) && !pace.take(later(20)));
        assert_eq!((0..100).filter(|_| pace.take(later(60_000))).count(), 50);
    }
}

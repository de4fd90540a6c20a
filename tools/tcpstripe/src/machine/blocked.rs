//! For how long bytes have waited for those before them.

use std::time::{Duration, Instant};

/// Time at the head of the line.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    before: Duration,
    since: Option<Instant>,
}

impl Blocked {
    /// Whether some wait now and nothing can be delivered.
    pub(super) fn note(&mut self, now: Instant, blocked: bool) {
        match self.since {
            Some(since) if !blocked => {
                self.before += now.saturating_duration_since(since);
                self.since = None;
            }
            None if blocked => self.since = Some(now),
            _ => {}
        }
    }

    /// In all, seconds.
    pub(super) fn seconds(&self, now: Instant) -> f64 {
        let current = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        (self.before + current).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a beginning, from which time is counted")]
    use super::*;

    #[test]
    fn times_add_up() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut blocked = Blocked::default();
        for (at, is) in [(0, false), (1, true), (2, true), (4, false), (5, false), (6, true)] {
            blocked.note(start + at * second, is);
        }
        assert_eq!(blocked.seconds(start + 8 * second), 5.0);
    }
}

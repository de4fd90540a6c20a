//! When to try again what came to nothing.

use std::time::{Duration, Instant};

/// The first wait: after it the other side has learnt of the end, too, and the ports of its players' sockets are free for the
/// same players.
const FIRST: Duration = Duration::from_millis(200);
/// For so long waits stay short: a side that is started again is there again within a moment.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest short wait.
const SHORT: Duration = Duration::from_millis(300);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(2);

/// Waits that become longer, and begin anew after what had worked.
#[derive(Debug, Default)]
pub struct Again {
    since: Option<Instant>,
    wait: Duration,
}

impl Again {
    /// It worked.
    pub fn worked(&mut self) {
        *self = Self::default();
    }

    /// It came to nothing: how long to wait.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let since = *self.since.get_or_insert(now);
        let longest = if now.saturating_duration_since(since) < PATIENCE { SHORT } else { LONGEST };
        self.wait = (self.wait * 2).clamp(FIRST, longest);
        self.wait
    }

    /// Whether this is the first failure since it worked.
    pub fn is_news(&self) -> bool {
        self.since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_become_longer_but_not_soon() {
        #[expect(clippy::disallowed_methods, reason = "a machine's time begins somewhere")]
        let start = Instant::now();
        let mut again = Again::default();
        assert!(again.is_news());
        let waits: Vec<u128> = (0..6).map(|_| again.failed(start).as_millis()).collect();
        assert_eq!(waits, [200, 300, 300, 300, 300, 300]);
        let later: Vec<u128> = (0..6).map(|_| again.failed(start + PATIENCE).as_millis()).collect();
        assert_eq!(later, [600, 1200, 2000, 2000, 2000, 2000]);
        again.worked();
        assert!(again.is_news() && again.failed(start + PATIENCE) == FIRST);
    }
}

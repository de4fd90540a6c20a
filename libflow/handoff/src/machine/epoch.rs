//! Moments that outlive a process.

use std::time::{Duration, Instant};

/// One moment, as this process counts time and as the host does: an [`Instant`] can be kept in a ticket as
/// milliseconds of the host's monotonic clock, and is an instant again in the next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The moment here.
    pub at: Instant,
    /// What the host's monotonic clock said then, ms.
    pub ms: u64,
}

impl Epoch {
    /// An instant in the host's time, ms.
    pub fn to_host(self, at: Instant) -> u64 {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.at) {
            Some(later) => self.ms.saturating_add(ms(later)),
            None => self.ms.saturating_sub(ms(self.at.saturating_duration_since(at))),
        }
    }

    /// The instant that [`to_host`](Self::to_host) was given, in this process or an earlier one of this host. Not
    /// after `now`.
    pub fn to_instant(self, host_ms: u64, now: Instant) -> Instant {
        let age = self.to_host(now).saturating_sub(host_ms);
        now.checked_sub(Duration::from_millis(age)).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn an_age_is_the_same_in_the_next_process() {
        let at = Instant::now();
        let ms = Duration::from_millis;
        let before = Epoch { at, ms: 10_000 };
        let born = before.to_host(at + ms(500));
        // Started 3 s after the first.
        let after = Epoch { at: at + ms(3_000), ms: 13_000 };
        let now = at + ms(4_000);
        assert_eq!(now - after.to_instant(born, now), ms(3_500));
        assert_eq!(after.to_instant(99_999, now), now, "nothing is born in the future");
        assert_eq!(after.to_host(at + ms(1_000)), 11_000);
    }
}

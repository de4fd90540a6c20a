//! Whether the other side is there, and how far away: pings, and silence.

use std::time::{Duration, Instant};

/// Between pings.
const EVERY: Duration = Duration::from_secs(1);
/// The other side is gone when it says nothing, not even answers to pings, for so long.
const SILENT: Duration = Duration::from_millis(3_500);

/// The pulse of one flow, as one side feels it.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    next: Instant,
    heard: Instant,
    round_trip: Option<Duration>,
}

impl Pulse {
    /// Of a flow that is new.
    pub fn new(now: Instant) -> Self {
        Self { began: now, next: now, heard: now, round_trip: None }
    }

    /// The other side said something.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now.max(self.heard);
    }

    /// It answered a ping.
    pub fn pong(&mut self, now: Instant, number: u64) {
        let asked = self.began.checked_add(Duration::from_micros(number)).filter(|asked| *asked <= now);
        if let Some(took) = asked.map(|asked| now - asked).filter(|took| *took < SILENT) {
            self.round_trip = Some(self.round_trip.map_or(took, |before| (before * 3 + took) / 4));
        }
    }

    /// A ping that is to be sent now.
    pub fn poll_ping(&mut self, now: Instant) -> Option<u64> {
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        u64::try_from((now - self.began).as_micros()).ok()
    }

    /// Whether the other side is gone.
    pub fn is_silent(&self, now: Instant) -> bool {
        now >= self.heard + SILENT
    }

    /// When to look again.
    pub fn poll_timeout(&self) -> Instant {
        self.next.min(self.heard + SILENT)
    }

    /// To the other side and back, smoothed.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_measured_and_silence_is_noticed() {
        #[expect(clippy::disallowed_methods, reason = "a machine's time begins somewhere")]
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::new(at(0));
        let first = pulse.poll_ping(at(0)).unwrap();
        assert_eq!(pulse.poll_ping(at(999)), None);
        pulse.pong(at(20), first);
        assert_eq!(pulse.round_trip(), Some(Duration::from_millis(20)));
        let second = pulse.poll_ping(at(1000)).unwrap();
        pulse.pong(at(1060), second);
        assert_eq!(pulse.round_trip(), Some(Duration::from_millis(30)));
        pulse.pong(at(1060), u64::MAX);
        pulse.pong(at(1060), 5_000_000);
        assert_eq!(pulse.round_trip(), Some(Duration::from_millis(30)), "made-up answers say nothing");
        pulse.heard(at(1060));
        assert!(!pulse.is_silent(at(4559)) && pulse.is_silent(at(4560)));
        assert_eq!(pulse.poll_timeout(), at(2000));
    }
}

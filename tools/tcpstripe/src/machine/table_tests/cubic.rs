//! A sender with the loss-based control of most TCPs: Cubic (RFC 9438), selective acknowledgements, no pacing. Counts packets.

use std::collections::BTreeMap;
use std::time::Duration;

/// A loss takes the window to so much of it.
const BETA: f64 = 0.7;
/// Packets per second³.
const C: f64 = 0.4;
const FIRST_WINDOW: f64 = 10.0;
/// A packet is lost when one that was sent so many later has come.
const REORDERED: u64 = 3;

/// What decides how many packets may be under way, and which have to go again.
#[derive(Debug)]
pub(super) struct Cubic {
    window: f64,
    threshold: f64,
    /// Where the window was when it shrank last, when that was, and from which transmission on a loss is another one.
    most: f64,
    shrank: Duration,
    recovery: u64,
    /// Transmissions by number: which packet, and when.
    under_way: BTreeMap<u64, (u64, Duration)>,
    sent: u64,
    pub(super) rtt: Duration,
}

impl Cubic {
    pub(super) fn new(round_trip: Duration) -> Self {
        Self {
            window: FIRST_WINDOW,
            threshold: f64::MAX,
            most: 0.0,
            shrank: Duration::ZERO,
            recovery: 0,
            under_way: BTreeMap::new(),
            sent: 0,
            rtt: round_trip,
        }
    }

    pub(super) fn window(&self) -> f64 {
        self.window
    }

    pub(super) fn has_room(&self) -> bool {
        (self.under_way.len() as f64) < self.window
    }

    /// A packet goes out; the number of its transmission.
    pub(super) fn send(&mut self, now: Duration, packet: u64) -> u64 {
        self.sent += 1;
        self.under_way.insert(self.sent, (packet, now));
        self.sent
    }

    /// A transmission arrived, says the peer; packets that are lost.
    pub(super) fn acknowledged(&mut self, now: Duration, transmission: u64) -> Vec<u64> {
        let full = self.under_way.len() as f64 + 1.0 >= self.window;
        let Some((_, at)) = self.under_way.remove(&transmission) else { return Vec::new() };
        self.rtt = now - at;
        // A window that is not used does not grow.
        if full {
            self.grow(now);
        }
        let lost: Vec<u64> =
            self.under_way.range(..transmission.saturating_sub(REORDERED - 1)).map(|(n, _)| *n).collect();
        self.lose(now, &lost)
    }

    /// Nothing has come for long: all of it is taken for lost.
    pub(super) fn timed_out(&mut self, now: Duration) -> Vec<u64> {
        let patience = (self.rtt * 2).max(Duration::from_millis(200));
        match self.under_way.first_key_value() {
            Some((_, (_, at))) if now > *at + patience => {
                let lost: Vec<u64> = self.under_way.keys().copied().collect();
                self.lose(now, &lost)
            }
            _ => Vec::new(),
        }
    }

    fn lose(&mut self, now: Duration, transmissions: &[u64]) -> Vec<u64> {
        for transmission in transmissions {
            if *transmission > self.recovery {
                // One loss per window counts.
                (self.most, self.shrank, self.recovery) = (self.window, now, self.sent);
                self.window = (self.window * BETA).max(2.0);
                self.threshold = self.window;
            }
        }
        transmissions
            .iter()
            .filter_map(|transmission| self.under_way.remove(transmission))
            .map(|(packet, _)| packet)
            .collect()
    }

    fn grow(&mut self, now: Duration) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let since = (now - self.shrank).as_secs_f64();
        let from_most = since - cube_root(self.most * (1.0 - BETA) / C);
        let cubic = C * from_most * from_most * from_most + self.most;
        let reno = self.most * BETA + 3.0 * (1.0 - BETA) / (1.0 + BETA) * since / self.rtt.as_secs_f64();
        let wanted = cubic.max(reno).min(self.window * 1.5);
        self.window += ((wanted - self.window) / self.window).max(0.01 / self.window);
    }
}

/// By multiplication and division only, which every machine does alike.
fn cube_root(value: f64) -> f64 {
    let mut root = value.max(1.0);
    for _ in 0..40 {
        root = (2.0 * root + value / (root * root)) / 3.0;
    }
    root
}

#[test]
fn roots_are_roots() {
    for value in [1.0, 8.0, 100.0, 12_345.0] {
        let root = cube_root(value);
        assert!((root * root * root / value - 1.0).abs() < 1e-12, "{root}");
    }
}

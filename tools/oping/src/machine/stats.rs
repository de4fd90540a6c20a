//! Round-trip times: min, average, median, p99, max, mdev.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times above an hour count as an hour in the percentiles.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Round-trip times in constant memory; percentiles are exact to 0.1 %.
#[derive(Debug)]
pub struct Stats {
    histogram: Histogram<u64>,
    count: u64,
    min: Duration,
    max: Duration,
    sum_ms: f64,
    sum_of_squares: f64,
}

/// Round-trip times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RttMs {
    /// Fastest.
    pub min: f64,
    /// Mean.
    pub avg: f64,
    /// Half were faster.
    pub median: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// Slowest.
    pub max: f64,
    /// Standard deviation, as ping's.
    pub mdev: f64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            // Bounds are constants within the limits of the library.
            histogram: Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("constant bounds"),
            count: 0,
            min: Duration::MAX,
            max: Duration::ZERO,
            sum_ms: 0.0,
            sum_of_squares: 0.0,
        }
    }
}

impl Stats {
    /// Takes one round-trip time.
    pub fn record(&mut self, rtt: Duration) {
        self.histogram.saturating_record(u64::try_from(rtt.as_nanos()).unwrap_or(HIGHEST_NS).max(1));
        self.count += 1;
        self.min = self.min.min(rtt);
        self.max = self.max.max(rtt);
        let ms = ms(rtt);
        self.sum_ms += ms;
        self.sum_of_squares += ms * ms;
    }

    /// The numbers; `None` before the first time.
    pub fn rtt_ms(&self) -> Option<RttMs> {
        if self.count == 0 {
            return None;
        }
        let count = self.count as f64;
        let avg = self.sum_ms / count;
        let (min, max) = (ms(self.min), ms(self.max));
        // A bucket's upper end may lie above the slowest.
        let quantile = |q| (self.histogram.value_at_quantile(q) as f64 / 1e6).clamp(min, max);
        Some(RttMs {
            min,
            avg,
            median: quantile(0.5),
            p99: quantile(0.99),
            max,
            mdev: (self.sum_of_squares / count - avg * avg).max(0.0).sqrt(),
        })
    }
}

/// Milliseconds with a fraction.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_recorded_gives_nothing() {
        assert_eq!(Stats::default().rtt_ms(), None);
    }

    #[test]
    fn known_numbers() {
        let mut stats = Stats::default();
        for n in 1..=100 {
            stats.record(Duration::from_millis(n));
        }
        let rtt = stats.rtt_ms().unwrap();
        assert_eq!((rtt.min, rtt.max), (1.0, 100.0));
        assert!((rtt.avg - 50.5).abs() < 1e-9);
        assert!((rtt.median - 50.0).abs() < 0.1, "{rtt:?}");
        assert!((rtt.p99 - 99.0).abs() < 0.1, "{rtt:?}");
        // Population deviation of 1..=100.
        assert!((rtt.mdev - 28.866_070).abs() < 1e-3, "{rtt:?}");
    }

    #[test]
    fn an_absurd_time_does_not_panic() {
        let mut stats = Stats::default();
        stats.record(Duration::ZERO);
        stats.record(Duration::MAX);
        assert_eq!(stats.rtt_ms().unwrap().min, 0.0);
    }

    proptest! {
        #[test]
        fn as_a_sorted_list_says(mut times in prop::collection::vec(1u64..10_000_000_000, 1..200)) {
            let mut stats = Stats::default();
            for ns in &times {
                stats.record(Duration::from_nanos(*ns));
            }
            times.sort_unstable();
            let at = |q: f64| times[((times.len() as f64 * q).ceil() as usize).max(1) - 1] as f64 / 1e6;
            let rtt = stats.rtt_ms().unwrap();
            for (got, want) in [(rtt.min, at(0.0)), (rtt.median, at(0.5)), (rtt.p99, at(0.99)), (rtt.max, at(1.0))] {
                prop_assert!((got - want).abs() <= want * 1e-3 + 1e-9, "{got} {want}");
            }
            prop_assert!(rtt.min <= rtt.median && rtt.median <= rtt.p99 && rtt.p99 <= rtt.max);
        }
    }
}

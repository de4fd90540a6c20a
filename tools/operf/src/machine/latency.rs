//! Times and their percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Times in constant memory, percentiles exact to 0.1 %.
#[derive(Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Micros {
    /// How many times.
    pub count: u64,
    /// Fastest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Half were faster.
    pub p50: f64,
    /// 90 of 100 were faster.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// Slowest.
    pub max: f64,
}

impl Default for Latency {
    fn default() -> Self {
        // Bounds are constants within the limits of the library.
        let histogram = Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("constant bounds");
        Self { histogram, sum_ns: 0, min_ns: u64::MAX, max_ns: 0 }
    }
}

impl Latency {
    /// Takes one time.
    pub fn record(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(HIGHEST_NS);
        self.histogram.saturating_record(ns.max(1));
        self.sum_ns += u128::from(ns);
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// The numbers; `None` before the first time.
    pub fn micros(&self) -> Option<Micros> {
        let count = self.histogram.len();
        if count == 0 {
            return None;
        }
        // A bucket's upper end may lie above the slowest.
        let quantile = |q| self.histogram.value_at_quantile(q).clamp(self.min_ns, self.max_ns) as f64 / 1e3;
        Some(Micros {
            count,
            min: self.min_ns as f64 / 1e3,
            mean: self.sum_ns as f64 / count as f64 / 1e3,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.max_ns as f64 / 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut latency = Latency::default();
        assert_eq!(latency.micros(), None);
        for us in 1..=1000 {
            latency.record(Duration::from_micros(us));
        }
        let micros = latency.micros().unwrap();
        let close = |got: f64, want: f64| assert!((got - want).abs() <= want / 1000.0, "{got} {want}");
        assert_eq!((micros.count, micros.min, micros.max), (1000, 1.0, 1000.0));
        close(micros.mean, 500.5);
        close(micros.p50, 500.0);
        close(micros.p90, 900.0);
        close(micros.p99, 990.0);
        close(micros.p999, 999.0);
    }

    #[test]
    fn absurd_times_do_not_panic() {
        let mut latency = Latency::default();
        latency.record(Duration::ZERO);
        latency.record(Duration::MAX);
        assert_eq!(latency.micros().unwrap().count, 2);
    }
}

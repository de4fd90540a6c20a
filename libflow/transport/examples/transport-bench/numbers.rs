//! This process as the kernel sees it.

use std::time::{Duration, Instant};

/// Clock ticks of /proc a second, the same on all Linux.
const TICKS: u64 = 100;

/// CPU time used so far, all threads.
pub(crate) fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    // Behind the name in parentheses: utime and stime are the 12th and 13th.
    let rest = text.rsplit_once(')').expect("a name in parentheses").1;
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Memory in use, bytes.
pub(crate) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 = text.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("a number");
    pages * 4096
}

/// Wall and CPU time from now on.
pub(crate) struct Watch(Instant, Duration);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    /// Gbit/s, CPU s/GB.
    pub(crate) fn rate(&self, bytes: u64) -> (f64, f64) {
        let (wall, cpu) = (self.0.elapsed(), cpu() - self.1);
        let gigabytes = bytes as f64 / 1e9;
        (round(gigabytes * 8.0 / wall.as_secs_f64()), round(cpu.as_secs_f64() / gigabytes))
    }
}

/// Three digits.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The value below which `part` of all are, µs.
pub(crate) fn percentile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let place = ((times.len() as f64 * part) as usize).min(times.len() - 1);
    round(times[place].as_secs_f64() * 1e6)
}

//! How long chunks are: as long as a few milliseconds of the track's rate, so that a slow track holds nobody up for long and a
//! fast one does not pay per chunk.

use std::time::{Duration, Instant};

/// What a chunk may take.
const TIME: f64 = 0.004;
/// The shortest that are cut by this reckoning.
const SHORTEST: f64 = 4096.0;
/// Before anything is known.
const FIRST: u32 = 16 << 10;
/// How long a reading takes at least.
const READING: Duration = Duration::from_millis(20);
/// A pause so long is no reading of the track but of its user.
const PAUSE: Duration = Duration::from_millis(500);

/// A track's chunk size.
#[derive(Clone, Debug)]
pub(super) struct ChunkSize {
    size: u32,
    longest: u32,
    fixed: bool,
    since: Option<Instant>,
    bytes: u64,
}

impl ChunkSize {
    /// At most `longest`; `fixed`: always so many.
    pub(super) fn new(longest: u32, fixed: Option<u32>) -> Self {
        let size = fixed.unwrap_or(FIRST).clamp(1, longest);
        Self { size, longest, fixed: fixed.is_some(), since: None, bytes: 0 }
    }

    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    /// So many bytes went through.
    pub(super) fn moved(&mut self, now: Instant, bytes: usize) {
        let since = *self.since.get_or_insert(now);
        let took = now.saturating_duration_since(since);
        self.bytes += bytes as u64;
        if self.fixed || took < READING {
            return;
        }
        if took < PAUSE {
            let rate = self.bytes as f64 / took.as_secs_f64();
            let wanted = (rate * TIME).clamp(SHORTEST, f64::from(self.longest).max(SHORTEST));
            // Half way each time: one reading is no rate.
            let size = (f64::from(self.size) + wanted) / 2.0;
            let size = if (size - wanted).abs() < 1.0 { wanted } else { size };
            self.size = (size as u32).clamp(1, self.longest);
        }
        (self.since, self.bytes) = (Some(now), 0);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a beginning, from which time is counted")]
    use super::*;

    fn after(rate: f64, size: u32, longest: u32, fixed: Option<u32>) -> usize {
        let mut chunk = ChunkSize::new(longest, fixed);
        let mut now = Instant::now();
        for _ in 0..10_000 {
            now += Duration::from_secs_f64(f64::from(size) / rate);
            chunk.moved(now, size as usize);
        }
        chunk.size()
    }

    #[test]
    fn chunks_follow_the_rate() {
        let longest = 128 << 10;
        assert_eq!(after(100e3, 4096, longest, None), 4096, "a slow track");
        let middle = after(12.5e6, 16 << 10, longest, None);
        assert!((45_000..55_000).contains(&middle), "100 Mbit/s: {middle}");
        assert!(after(1e9, 64 << 10, longest, None) > 130_000, "a fast one");
        assert_eq!(after(1e9, 64 << 10, 65_535, None), 65_535, "a short framing");
        assert_eq!(after(1e9, 64 << 10, longest, Some(1000)), 1000);
        assert_eq!(ChunkSize::new(65_535, None).size(), 16 << 10);
    }
}

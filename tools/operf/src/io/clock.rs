//! The clocks.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Measures what a side of a test took: time, and CPU time of the calling thread, or of all the process.
pub(crate) struct Meter {
    pub(crate) start: Instant,
    clock: ClockId,
    cpu: Duration,
}

impl Meter {
    /// Starts now, on this thread; `helped`: the work of other threads counts, too (on a server that runs several tests
    /// all of theirs does).
    pub(crate) fn start(helped: bool) -> Self {
        let clock = if helped { ClockId::ProcessCPUTime } else { ClockId::ThreadCPUTime };
        Self { start: Instant::now(), clock, cpu: cpu(clock) }
    }

    /// CPU time since the start.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.clock).saturating_sub(self.cpu)
    }
}

/// User and system time, to the nanosecond.
fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

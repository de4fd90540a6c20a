//! The clocks.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Measures what a side of a test took: time, and CPU time of the calling thread.
pub(crate) struct Meter {
    pub(crate) start: Instant,
    cpu: Duration,
}

impl Meter {
    /// Starts now, on this thread.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), cpu: thread_cpu() }
    }

    /// CPU time of this thread since the start.
    pub(crate) fn cpu(&self) -> Duration {
        thread_cpu().saturating_sub(self.cpu)
    }
}

/// User and system time of this thread: what getrusage(RUSAGE_THREAD) tells, to the nanosecond.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

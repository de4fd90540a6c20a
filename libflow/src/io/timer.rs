//! How much of a time is left.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::time::{Duration, Instant};

/// Runs from its start.
pub(crate) struct Timer {
    start: Instant,
    within: Duration,
}

impl Timer {
    pub(crate) fn start(within: Duration) -> Self {
        Self { start: Instant::now(), within }
    }

    /// What is left; zero once it is over.
    pub(crate) fn left(&self) -> Duration {
        self.within.saturating_sub(self.start.elapsed())
    }
}

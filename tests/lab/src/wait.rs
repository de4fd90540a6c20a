//! Waiting for something to become true, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A point in time after which waiting is failing.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `within` from now.
    pub fn after(within: Duration) -> Self {
        Self(Instant::now() + within)
    }

    /// What is left; zero once it is past.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it is past.
    pub fn is_past(self) -> bool {
        self.left().is_zero()
    }
}

/// Waits until `done` holds; `what` completes "waited N s for …". For things outside that give no event: a socket that
/// accepts, a row in a listing, a process that is gone. Where there is an event, wait for the event.
pub fn wait_until(within: Duration, what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Deadline::after(within);
    while !done() {
        if deadline.is_past() {
            bail!("waited {} s for {what}, in vain", within.as_secs_f32());
        }
        // The only pause of the tests: what is asked about gives no event, and a short one bounds the error of
        // times measured with it.
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 3_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
    Ok(())
}

//! Ctrl-C as an event, so that what was started is stopped in order.

use anyhow::{Context as _, Result};

use crate::sys;

/// SIGINT and SIGTERM, blocked for the thread that made this and all it starts later.
pub struct Interrupts(libc::sigset_t);

impl Interrupts {
    /// Blocks the signals. Before the first thread is started, else one of them takes the signal and the process ends.
    pub fn catch() -> Result<Self> {
        Ok(Self(sys::block_interrupts().context("blocking SIGINT")?))
    }

    /// Whether one came. Asked again, it says so once for each.
    pub fn came(&self) -> Result<bool> {
        sys::take_interrupt(&self.0, false).context("asking for SIGINT")
    }

    /// Waits for one.
    pub fn wait(&self) -> Result<()> {
        sys::take_interrupt(&self.0, true).map(drop).context("waiting for SIGINT")
    }
}

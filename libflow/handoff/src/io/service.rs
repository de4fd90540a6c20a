//! A daemon under a service manager (systemd's protocol): readiness, status, watchdog, sockets it was given.
#![expect(unsafe_code, reason = "descriptors that the service manager passed are numbers")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// What a child must not inherit: it would speak in the daemon's name.
pub const VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Speaks to the service manager; to nobody where there is none.
#[derive(Debug)]
pub struct Service {
    watchdog: Option<Interval>,
}

impl Service {
    /// Looks whether a watchdog is to be fed. Within a runtime.
    pub fn new() -> Self {
        let every = sd_notify::watchdog_enabled().filter(|within| !within.is_zero());
        let watchdog = every.map(|within| {
            // Half of the time, as the manual says: one beat may be late.
            let mut beat = interval(within / 2);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat
        });
        Self { watchdog }
    }

    /// The daemon serves from now on.
    pub fn ready(&self, status: &str) {
        say(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Waits until the watchdog wants to hear; for ever where there is none. To be waited for by the task whose
    /// hanging is to be noticed.
    pub async fn watchdog(&mut self) {
        match &mut self.watchdog {
            Some(beat) => drop(beat.tick().await),
            None => std::future::pending().await,
        }
    }

    /// The daemon is well.
    pub fn alive(&self, status: &str) {
        say(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    /// The daemon ends.
    pub fn stopping(&self) {
        say(&[NotifyState::Stopping]);
    }
}

impl Default for Service {
    fn default() -> Self {
        Self::new()
    }
}

/// A service manager that does not listen is no reason to end.
fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told how this daemon is");
    }
}

/// Sockets that the service manager opened for this process, in its order. To be called once.
pub fn sockets() -> io::Result<Vec<OwnedFd>> {
    let given = sd_notify::listen_fds()?;
    // SAFETY: LISTEN_PID names this process, so these numbers were opened for it and nobody else owns them; they are
    // asked for once.
    Ok(given.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

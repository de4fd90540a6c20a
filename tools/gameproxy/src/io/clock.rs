//! A clock among the sockets that are waited for. A wait with a time of its own sets and takes back a timer of the kernel's each
//! time; this one is set when the moment changes, which is seldom.

#![expect(clippy::disallowed_methods, reason = "io/: the clock")]

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Marks the clock among what an epoll says.
pub(super) const CLOCK: u64 = u64::MAX - 1;

/// A clock that is set to the next moment at which something is to be done.
#[derive(Debug)]
pub(super) struct Clock {
    timer: OwnedFd,
    set: Option<Instant>,
}

impl Clock {
    /// Not set; `epoll` hears of it as [`CLOCK`].
    pub(super) fn new(epoll: &OwnedFd) -> Result<Self, Errno> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(epoll, &timer, EventData::new_u64(CLOCK), EventFlags::IN)?;
        Ok(Self { timer, set: None })
    }

    /// It rings then, or earlier.
    pub(super) fn set(&mut self, due: Option<Instant>) -> Result<(), Errno> {
        let Some(due) = due.filter(|due| self.set.is_none_or(|set| *due < set)) else { return Ok(()) };
        // Zero would stop it.
        let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.set = Some(due);
        Ok(())
    }

    /// It rang.
    pub(super) fn rang(&mut self) {
        self.set = None;
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
    }
}

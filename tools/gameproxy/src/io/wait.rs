//! An epoll of one's own in tokio's: many sockets are one thing to wait for, and are looked at together.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sockets that are looked at together.
const EVENTS: usize = 256;

/// Sockets, waited for in a runtime.
pub(super) struct Sockets {
    epoll: Arc<OwnedFd>,
    watched: AsyncFd<OwnedFd>,
    ready: Vec<u64>,
}

impl Sockets {
    pub(super) fn new(epoll: Arc<OwnedFd>) -> io::Result<Self> {
        let watched = tool::watched(epoll.try_clone()?, Interest::READABLE)?;
        Ok(Self { epoll, watched, ready: Vec::with_capacity(EVENTS) })
    }

    /// Waits until some have something. Cancel-safe.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        loop {
            let mut guard = self.watched.readable().await?;
            let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS];
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let (ready, _) = epoll::wait(&*self.epoll, &mut events, Some(&none))?;
            self.ready.clear();
            self.ready.extend(ready.iter().map(|event| event.data.u64()));
            match self.ready.is_empty() {
                true => guard.clear_ready(),
                false => return Ok(()),
            }
        }
    }

    /// Which they are; each once.
    pub(super) fn ready(&mut self) -> std::vec::Drain<'_, u64> {
        self.ready.drain(..)
    }
}

/// Waits for a moment; for ever where there is none.
pub(super) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

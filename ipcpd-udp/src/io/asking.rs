//! The sockets of flows that are being asked for: the only flows' sockets this process reads.
//!
//! They stand in an epoll set of their own, and tokio watches that: a flow costs no task and no registration.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::machine::Key;

/// Sockets reported per turn.
const PER_TURN: usize = 64;

pub(super) struct Asking {
    set: AsyncFd<OwnedFd>,
}

impl Asking {
    pub(super) fn new() -> std::io::Result<Self> {
        let set = handoff::watch_readable(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        Ok(Self { set })
    }

    pub(super) fn add(&self, key: Key, socket: impl AsFd) -> std::io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ERR;
        Ok(epoll::add(self.set.get_ref(), socket, epoll::EventData::new_u64(key.0), flags)?)
    }

    /// Also of one that is not in the set.
    pub(super) fn remove(&self, socket: impl AsFd) {
        let _ = epoll::delete(self.set.get_ref(), socket);
    }

    /// Waits until one of them has something.
    pub(super) async fn ready(&self) -> std::io::Result<()> {
        self.set.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Those that have something, and whether that is an error; another turn follows as long as there are any.
    pub(super) fn take(&self) -> Vec<(Key, bool)> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let taken = self.set.try_io(Interest::READABLE, |set| {
            let mut events = [MaybeUninit::uninit(); PER_TURN];
            let (events, _) = epoll::wait(set, &mut events, Some(&now))?;
            match events {
                [] => Err(ErrorKind::WouldBlock.into()),
                events => {
                    let failed = |flags: epoll::EventFlags| flags.contains(epoll::EventFlags::ERR);
                    Ok(events.iter().map(|event| (Key(event.data.u64()), failed(event.flags))).collect())
                }
            }
        });
        taken.unwrap_or_else(|error| {
            if error.kind() != ErrorKind::WouldBlock {
                tracing::warn!(%error, "the sockets of pending flows could not be looked at");
            }
            Vec::new()
        })
    }
}

//! The sockets of flows that are being asked for, and the catchers of flows that were accepted a moment ago: the only
//! flows' sockets this process reads.
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

/// Marks the keys of catchers; the machine counts keys from one.
const CATCHER: u64 = 1 << 63;

/// A socket that has something.
pub(super) enum Ready {
    /// Of a flow that is asked for, and whether it has an error.
    Asking(Key, bool),
    Catcher(Key),
}

pub(super) struct Asking {
    set: AsyncFd<OwnedFd>,
}

impl Asking {
    pub(super) fn new() -> std::io::Result<Self> {
        let set = handoff::watch_readable(epoll::create(epoll::CreateFlags::CLOEXEC)?)?;
        Ok(Self { set })
    }

    pub(super) fn add(&self, key: Key, socket: impl AsFd) -> std::io::Result<()> {
        self.watch(key.0, socket)
    }

    /// A closed catcher leaves by itself: nobody else holds it.
    pub(super) fn add_catcher(&self, key: Key, socket: impl AsFd) -> std::io::Result<()> {
        self.watch(key.0 | CATCHER, socket)
    }

    fn watch(&self, data: u64, socket: impl AsFd) -> std::io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ERR;
        Ok(epoll::add(self.set.get_ref(), socket, epoll::EventData::new_u64(data), flags)?)
    }

    /// Also of one that is not in the set.
    pub(super) fn remove(&self, socket: impl AsFd) {
        let _ = epoll::delete(self.set.get_ref(), socket);
    }

    /// Waits until one of them has something.
    pub(super) async fn ready(&self) -> std::io::Result<()> {
        self.set.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Those that have something; another turn follows as long as there are any.
    pub(super) fn take(&self) -> Vec<Ready> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let taken = self.set.try_io(Interest::READABLE, |set| {
            let mut events = [MaybeUninit::uninit(); PER_TURN];
            let (events, _) = epoll::wait(set, &mut events, Some(&now))?;
            match events {
                [] => Err(ErrorKind::WouldBlock.into()),
                events => {
                    let ready = |event: &epoll::Event| {
                        let (data, flags) = (event.data.u64(), event.flags);
                        match data & CATCHER {
                            0 => Ready::Asking(Key(data), flags.contains(epoll::EventFlags::ERR)),
                            _ => Ready::Catcher(Key(data & !CATCHER)),
                        }
                    };
                    Ok(events.iter().map(ready).collect())
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

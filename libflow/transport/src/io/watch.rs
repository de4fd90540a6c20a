//! Descriptors watched by tokio, and whether they were shut down.
#![expect(unsafe_code, reason = "tokio wants the owner of a watched descriptor to vouch for it")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor that has other users, for readability only: its users are not woken whenever something they sent
/// has left. It need not be in non-blocking mode as long as every call on it carries `MSG_DONTWAIT`. Must be called
/// within a tokio runtime, once for a descriptor.
pub(crate) fn readable(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the share keeps the descriptor open, and it is the same one until the `AsyncFd` is dropped.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

/// Watches a duplicate of `fd` for writability, for as long as somebody waits for room.
pub(crate) fn writable(fd: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let twin = fd.as_fd().try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open until it is dropped, always answers with the same descriptor, and the `AsyncFd`
    // owns it from here on.
    unsafe { AsyncFd::register_with_interest(twin, Interest::WRITABLE) }.map_err(|error| error.into_parts().1)
}

/// Watches a descriptor of one's own, both ways.
pub(crate) fn both(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: as above.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}

/// The socket was shut down, by a daemon or by the other end. A shut-down datagram socket answers `EAGAIN` to a call that
/// does not wait, for ever: only this tells it from an empty one.
pub(crate) fn is_shut(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::RDHUP)];
    let asked = rustix::event::poll(&mut fds, Some(&Timespec::default()));
    asked.is_ok() && fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
}

//! Descriptors watched by tokio.
#![expect(unsafe_code, reason = "tokio wants the owner of a watched descriptor to vouch for it")]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` for readability and writability. It need not be in non-blocking mode as long as every call on it
/// carries `MSG_DONTWAIT`. Must be called within a tokio runtime.
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until it is dropped, always answers with the same descriptor, and the `AsyncFd`
    // owns it from here on.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}

/// Watches `fd` for readability only: its owner is not woken whenever something it sent has left.
pub fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch_for(fd, Interest::READABLE)
}

/// Watches `fd` for writability only.
pub fn watch_writable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch_for(fd, Interest::WRITABLE)
}

/// The same for one of the two.
pub(super) fn watch_for(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: as above.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(|error| error.into_parts().1)
}

/// Watches a descriptor that has other users, for readability only.
pub fn watch_shared(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: as above; the `AsyncFd` holds a share, so the descriptor stays open.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

//! Descriptors watched by tokio.
#![expect(unsafe_code, reason = "tokio wants the owner of a watched descriptor to vouch for it")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor that has other users, for readability only. It need not be in non-blocking mode as long as every
/// call on it carries `MSG_DONTWAIT`. Must be called within a tokio runtime.
pub(crate) fn watch_shared(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an `OwnedFd` is open until it is dropped and always answers with the same descriptor; the `AsyncFd` holds
    // a share of it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}

/// Watches for writability only, on a descriptor of its own: the kernel reports room after each datagram that has left,
/// so this one is watched only while there is none.
pub(crate) fn watch_writable(fd: impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let twin = fd.as_fd().try_clone_to_owned()?;
    // SAFETY: as above; the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(twin, Interest::WRITABLE) }.map_err(|error| error.into_parts().1)
}

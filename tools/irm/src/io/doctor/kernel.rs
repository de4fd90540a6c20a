//! What only the kernel's interface for C tells.
#![expect(unsafe_code, reason = "two questions that no safe crate asks: an interface's MTU, the state of the clock")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes that an interface of this network sends at once. The socket may be any.
pub(super) fn mtu(socket: BorrowedFd<'_>, interface: &str) -> io::Result<u32> {
    // SAFETY: all of the structure is integers and bytes, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::other("the interface's name is too long"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    // SAFETY: SIOCGIFMTU reads the name, which ends with a zero, and writes the MTU, both within `request`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has written this member.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
}

/// Whether something keeps the clock right.
pub(super) fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: all of the structure is integers; no modes are set, so that nothing is changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to `state`, which lives across the call.
    match unsafe { libc::adjtimex(&raw mut state) } {
        -1 => Err(io::Error::last_os_error()),
        libc::TIME_ERROR => Ok(false),
        _ => Ok(state.status & libc::STA_UNSYNC == 0),
    }
}

//! Socket options and queries that no safe crate has.
#![expect(unsafe_code, reason = "setsockopt and ioctl with plain integers")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};

/// Nobody can change the socket's filter from now on.
pub(super) fn lock_filter(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1)
}

/// ICMP errors are reported on an unconnected socket, too. Switching it off forgets those that wait.
pub(super) fn report_errors(fd: BorrowedFd<'_>, v6: bool, on: bool) -> io::Result<()> {
    if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, on.into())
    } else {
        set(fd, libc::IPPROTO_IP, libc::IP_RECVERR, on.into())
    }
}

/// Bytes that were sent and have not left yet.
pub(super) fn unsent(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    let mut bytes: c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ) writes one int, and `bytes` lives across the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

fn set(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = socklen_t::try_from(size_of::<c_int>()).expect("an int is small");
    // SAFETY: the kernel reads `length` bytes of `value`, which lives across the call.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast::<c_void>(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that the kernel dropped because the socket's receive queue was full.
pub(super) fn overflown(fd: BorrowedFd<'_>) -> io::Result<u32> {
    /// SK_MEMINFO_DROPS, the last of SK_MEMINFO_VARS.
    const DROPS: usize = 8;
    let mut info = [0u32; DROPS + 1];
    let mut length = socklen_t::try_from(size_of_val(&info)).expect("nine numbers are few");
    // SAFETY: the kernel writes at most `length` bytes into `info`, which lives across the call.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    if result == 0 { Ok(info[DROPS]) } else { Err(io::Error::last_os_error()) }
}

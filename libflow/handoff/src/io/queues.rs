//! What the kernel says of a socket's queues.
#![expect(unsafe_code, reason = "a socket option and an ioctl that no crate wraps")]

use std::os::fd::{AsRawFd, BorrowedFd};

use proto::v1::SocketInfo;
use rustix::net::{AddressFamily, sockopt};

/// Of asm-generic/socket.h.
const SO_MEMINFO: libc::c_int = 55;
/// `SK_MEMINFO_VARS` of linux/sock_diag.h, and the places in it.
const VALUES: usize = 9;
const RECEIVE_QUEUE: usize = 0;
const RECEIVE_BUFFER: usize = 1;
const SEND_QUEUE: usize = 2;
const SEND_BUFFER: usize = 3;
const DROPS: usize = 8;

/// The queues of a flow's socket: one system call, for a socket pair two. `None`: the kernel does not say.
///
/// A socket pair's queue of what was sent is what the other end has not read yet.
pub fn look(socket: BorrowedFd<'_>) -> Option<SocketInfo> {
    let mut values = [0u32; VALUES];
    let mut bytes = libc::socklen_t::try_from(size_of_val(&values)).ok()?;
    let place = (&raw mut values).cast();
    // SAFETY: the kernel writes at most `bytes` bytes to `place`, which are all of `values`.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, place, &raw mut bytes) };
    if result != 0 {
        return None;
    }
    let value = |i: usize| u64::from(values[i]);
    let mut info = SocketInfo {
        receive_queue: value(RECEIVE_QUEUE),
        receive_buffer: value(RECEIVE_BUFFER),
        send_queue: value(SEND_QUEUE),
        send_buffer: value(SEND_BUFFER),
        drops: value(DROPS),
    };
    if sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX) {
        // What waits here is on the sender's account.
        info.receive_queue = rustix::io::ioctl_fionread(socket).unwrap_or(0);
    }
    Some(info)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own sockets")]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn what_waits_and_what_found_no_room_is_counted() {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        a.connect(b.local_addr().unwrap()).unwrap();
        assert_eq!(look(b.as_fd()).unwrap().receive_queue, 0);
        a.send(&[7; 1000]).unwrap();
        let waits = look(b.as_fd()).unwrap();
        assert!(waits.receive_queue >= 1000 && waits.receive_buffer > 0, "{waits:?}");
        socket2::SockRef::from(&b).set_recv_buffer_size(8_192).unwrap();
        let sent = 100;
        for _ in 0..sent {
            a.send(&[7; 1000]).unwrap();
        }
        let mut read = 0;
        b.set_nonblocking(true).unwrap();
        while b.recv(&mut [0; 2000]).is_ok() {
            read += 1;
        }
        assert_eq!(look(b.as_fd()).unwrap().drops, sent + 1 - read);
    }
}

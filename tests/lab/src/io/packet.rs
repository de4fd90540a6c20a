//! All frames of one device, in batches.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::ring::Ring;
use crate::sys::set_option;

/// Frames sent with one system call.
pub(crate) const BATCH: usize = 64;

/// Reads what comes in at a device and sends out of it.
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    ring: Ring,
}

impl PacketSocket {
    /// At `device` of the network this thread is in. Needs CAP_NET_RAW there.
    pub(crate) fn open(device: &str) -> io::Result<Self> {
        // No protocol yet: nothing is to come in before the ring is there.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        let ring = Ring::new(&socket)?;
        let yes: libc::c_int = 1;
        // What we send is not ours to forward.
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &yes)?;
        // Straight to the device: no queue to wait in, no copy for other packet sockets.
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &yes)?;
        bind(&socket, name_to_index(&socket, device)?)?;
        Ok(Self { socket, ring })
    }

    /// Hands the next frame to `take`, or `None` for one too large to be read; false where none has come.
    pub(crate) fn take(&mut self, take: impl FnOnce(Option<&[u8]>)) -> bool {
        self.ring.take(take)
    }

    /// Frames that found the ring full since this was asked last.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: all zero is a valid tpacket_stats.
        let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes of a live value.
        let result = unsafe {
            let to = (&raw mut stats).cast();
            libc::getsockopt(self.socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, to, &raw mut length)
        };
        if result < 0 { 0 } else { stats.tp_drops.into() }
    }

    /// Sends up to [`BATCH`] frames; how many the device did not take.
    pub(crate) fn send(&self, frames: &[&[u8]]) -> u64 {
        let (mut at, mut refused) = (0, 0);
        while at < frames.len() {
            // A frame that is refused is given up: a wire does not try again.
            match send_some(&self.socket, &frames[at..]) {
                Ok(sent) if sent > 0 => at += sent,
                _ => (at, refused) = (at + 1, refused + 1),
            }
        }
        refused
    }

    /// Takes an error off it, such as that the device is down, so that waiting for it works again.
    pub(crate) fn forget_error(&self) {
        let _ = rustix::net::sockopt::socket_error(&self.socket);
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address outlives the call and is as long as said.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn send_some(socket: &OwnedFd, frames: &[&[u8]]) -> io::Result<usize> {
    let frames = &frames[..frames.len().min(BATCH)];
    let mut parts: [libc::iovec; BATCH] = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
    // SAFETY: all zero is a valid mmsghdr: no address, no data, no control message.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for ((part, message), frame) in parts.iter_mut().zip(&mut messages).zip(frames) {
        *part = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: as many messages as frames are filled in, and each points to a part and that to a frame that outlive the
    // call; sending only reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), frames.len() as libc::c_uint, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

//! Datagrams of the listen port, many per system call: under a flood one each would cost more than all that is decided.
#![expect(unsafe_code, reason = "recvmmsg has no safe wrapper")]

use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{SockAddr, SockAddrStorage};

/// Datagrams per call, and per turn of the driver.
pub(super) const MANY: usize = 64;
/// Room for each. Longer ones are cut, and are longer than any of ours all the same.
pub(super) const WIDTH: usize = 2048;

/// Datagrams that were received together. Empty until the first [`Batch::receive`].
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    received: Vec<(usize, Option<SocketAddr>)>,
}

impl Batch {
    /// Receives what is there, without waiting: at least one datagram, at most [`MANY`].
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.received.clear();
        self.bytes.resize(MANY * WIDTH, 0);
        let mut names: [SockAddrStorage; MANY] = std::array::from_fn(|_| SockAddrStorage::zeroed());
        // SAFETY: all-zero is a valid iovec and a valid mmsghdr.
        let (mut buffers, mut messages): ([libc::iovec; MANY], [libc::mmsghdr; MANY]) = unsafe { (zeroed(), zeroed()) };
        let places = self.bytes.chunks_exact_mut(WIDTH).zip(names.iter_mut().zip(buffers.iter_mut()));
        for ((place, (name, buffer)), message) in places.zip(messages.iter_mut()) {
            *buffer = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
            message.msg_hdr.msg_iov = buffer;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = (&raw mut *name).cast();
            message.msg_hdr.msg_namelen = length_of_a_name();
        }
        // SAFETY: every message points to a buffer and a name of its own, of the lengths said, which live through the
        // call; no timeout is passed.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                MANY as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        for (message, name) in messages.iter().zip(names).take(got) {
            let length = message.msg_hdr.msg_namelen.min(length_of_a_name());
            // SAFETY: the kernel has written an address of that length, or none and a length of 0; what it has not
            // written is zero.
            let from = unsafe { SockAddr::new(name, length) }.as_socket();
            self.received.push(((message.msg_len as usize).min(WIDTH), from));
        }
        Ok(())
    }

    /// The datagrams, each with where it came from.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let places = self.bytes.chunks_exact(WIDTH).zip(&self.received);
        places.filter_map(|(place, (length, from))| Some((&place[..*length], (*from)?)))
    }
}

fn length_of_a_name() -> libc::socklen_t {
    size_of::<SockAddrStorage>() as libc::socklen_t
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is received must be sent")]
    fn many_are_received_at_once_each_with_its_source() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listen) = std::net::UdpSocket::bind(ip) else { continue };
            let senders = [ip, ip].map(|ip| std::net::UdpSocket::bind(ip).unwrap());
            let to = listen.local_addr().unwrap();
            let datagrams: [&[u8]; 4] = [b"one", b"", &[7; WIDTH + 9], &[8; 1200]];
            for datagram in datagrams {
                for sender in &senders {
                    sender.send_to(datagram, to).unwrap();
                }
            }
            let mut batch = Batch::default();
            batch.receive(listen.as_fd()).unwrap();
            let got: Vec<(Vec<u8>, SocketAddr)> = batch.iter().map(|(bytes, from)| (bytes.to_vec(), from)).collect();
            let cut = |datagram: &[u8]| datagram[..datagram.len().min(WIDTH)].to_vec();
            let sent = datagrams.iter().flat_map(|d| senders.iter().map(|s| (cut(d), s.local_addr().unwrap())));
            assert_eq!(got, sent.collect::<Vec<_>>());
            assert_eq!(batch.receive(listen.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(batch.iter().count(), 0);
        }
    }
}

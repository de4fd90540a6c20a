//! One packet with at most one descriptor beside it, in and out.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use proto::handoff::MAX_PACKET;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// What came.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    /// At most one is kept; the kernel's message may carry more, those are closed.
    pub(crate) descriptor: Option<OwnedFd>,
    /// The kernel cut descriptors off: this process is out of them, or the peer sent too many.
    pub(crate) descriptors_cut: bool,
    /// The packet was longer than [`MAX_PACKET`].
    pub(crate) cut: bool,
}

/// Receives without waiting; `None` at the end of the lease. An empty packet reads the same, so none is ever sent.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Option<Packet>, Errno> {
    let mut bytes = [0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for fd in descriptors {
                descriptor = descriptor.or(Some(fd));
            }
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    Ok(Some(Packet {
        bytes: bytes[..got.bytes].to_vec(),
        descriptor,
        descriptors_cut: got.flags.contains(ReturnFlags::CTRUNC),
        cut: got.flags.contains(ReturnFlags::TRUNC),
    }))
}

/// Sends without waiting.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: &[BorrowedFd<'_>] = descriptor.as_slice();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags).map(|_| ())
}

//! One frame, one system call, perhaps with a descriptor beside it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, sockopt,
};

use crate::machine::local::Attached;

/// What came.
pub(super) struct Received {
    /// Bytes in the buffer; 0 at the end of the flow, or for an empty packet.
    pub(super) len: usize,
    /// The packet was longer than the buffer.
    pub(super) cut: bool,
    pub(super) attached: Attached,
    /// With [`Attached::Stream`].
    pub(super) descriptor: Option<OwnedFd>,
}

/// Receives without waiting.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    // Room for two: one too many is seen as such, and told from one that found no number in this program.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    let mut came = ancillary
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(fds) = message { Some(fds) } else { None })
        .flatten();
    // All that came are owned here: those that are not kept are closed.
    let (first, second) = (came.next(), came.next());
    let lost = got.flags.contains(ReturnFlags::CTRUNC);
    let (attached, descriptor) = match (first, second) {
        (None, _) if lost => (Attached::Lost, None),
        (None, _) => (Attached::Nothing, None),
        (Some(fd), None) if !lost && is_stream(&fd) => (Attached::Stream, Some(fd)),
        _ => (Attached::Unfit, None),
    };
    Ok(Received { len: got.bytes, cut: got.flags.contains(ReturnFlags::TRUNC), attached, descriptor })
}

/// Whether a stranger's descriptor is one end of a SOCK_STREAM pair: nothing else is read from or written to.
fn is_stream(fd: &OwnedFd) -> bool {
    sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(fd) == Ok(SocketType::STREAM)
        && rustix::net::getpeername(fd).is_ok()
}

/// Sends one packet of two parts without waiting.
pub(super) fn send(socket: impl AsFd, parts: [&[u8]; 2], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: &[BorrowedFd<'_>] = descriptor.as_slice();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match rustix::net::sendmsg(socket.as_fd(), &parts.map(IoSlice::new), &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            sent => return sent.map(|_| ()),
        }
    }
}

//! System calls that no safe crate offers: UDP segmentation, and many messages per call.
#![expect(unsafe_code, reason = "sendmmsg, recvmmsg and UDP_SEGMENT have no safe wrapper")]

use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Messages per `sendmmsg`.
pub(crate) const SEND_MANY: usize = 32;
/// Messages per `recvmmsg`.
pub(crate) const RECV_MANY: usize = 16;

/// Room for one control message with a 4-byte value, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 32]);

/// One received message.
#[derive(Clone, Copy, Default)]
pub(crate) struct Received {
    /// Bytes, all SDUs together.
    pub(crate) len: usize,
    /// Length of each SDU but the last; 0: it is one SDU.
    pub(crate) segment: usize,
    /// The message was longer than its buffer.
    pub(crate) cut: bool,
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Switches UDP_GRO on: the kernel hands several SDUs over at once.
pub(crate) fn set_gro(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    // SAFETY: the value is a c_int that lives through the call, and its size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Sends `bytes` as SDUs of `segment` bytes (the last may be shorter) in one call.
pub(crate) fn send_segmented(socket: BorrowedFd<'_>, bytes: &[u8], segment: u16, flags: i32) -> Result<(), Errno> {
    let mut control = Control([0; 32]);
    let mut iovec = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid msghdr: no name, no buffers.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut iovec;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as usize;
    // SAFETY: the control buffer is aligned and 32 bytes long, more than the 24 of one control message with a u16,
    // so the first header and its data lie within it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
    }
    // SAFETY: all that the message points to lives through the call, which only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    if sent >= 0 { Ok(()) } else { Err(last_error()) }
}

/// Sends up to [`SEND_MANY`] SDUs of `size` bytes out of `bytes` (the last may be shorter); how many were sent.
pub(crate) fn send_many(socket: BorrowedFd<'_>, bytes: &[u8], size: usize, flags: i32) -> Result<usize, Errno> {
    let mut iovecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SEND_MANY];
    // SAFETY: all-zero is a valid mmsghdr.
    let mut messages: [libc::mmsghdr; SEND_MANY] = unsafe { zeroed() };
    let mut count = 0;
    for (sdu, (iovec, message)) in bytes.chunks(size).zip(iovecs.iter_mut().zip(messages.iter_mut())) {
        *iovec = libc::iovec { iov_base: sdu.as_ptr().cast_mut().cast(), iov_len: sdu.len() };
        message.msg_hdr.msg_iov = iovec;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` messages are initialised; they and their buffers live through the call.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, flags) };
    usize::try_from(sent).map_err(|_| last_error())
}

/// Receives up to [`RECV_MANY`] messages, each into its own `stride` bytes of `storage`.
pub(crate) fn recv_many(
    socket: BorrowedFd<'_>,
    storage: &mut [u8],
    stride: usize,
    flags: i32,
    into: &mut [Received; RECV_MANY],
) -> Result<usize, Errno> {
    let mut iovecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; RECV_MANY];
    let mut controls = [MaybeUninit::<Control>::uninit(); RECV_MANY];
    // SAFETY: all-zero is a valid mmsghdr.
    let mut messages: [libc::mmsghdr; RECV_MANY] = unsafe { zeroed() };
    let mut count = 0;
    let places = storage.chunks_exact_mut(stride).zip(iovecs.iter_mut().zip(controls.iter_mut()));
    for ((place, (iovec, control)), message) in places.zip(messages.iter_mut()) {
        *iovec = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
        message.msg_hdr.msg_iov = iovec;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = control.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = size_of::<Control>();
        count += 1;
    }
    // SAFETY: the first `count` messages point to buffers of their own, of the lengths said, which live through the
    // call; no timeout is passed.
    let got = unsafe { libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, flags, std::ptr::null_mut()) };
    let got = usize::try_from(got).map_err(|_| last_error())?;
    for (message, received) in messages.iter().take(got).zip(into.iter_mut()) {
        let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        *received = Received { len: message.msg_len as usize, segment: segment_of(&message.msg_hdr), cut };
    }
    Ok(got)
}

/// Receives one message. Where it brings dozens of SDUs, the one call costs less than `recvmmsg`'s book-keeping.
pub(crate) fn recv_one(socket: BorrowedFd<'_>, storage: &mut [u8], flags: i32) -> Result<Received, Errno> {
    let mut iovec = libc::iovec { iov_base: storage.as_mut_ptr().cast(), iov_len: storage.len() };
    let mut control = MaybeUninit::<Control>::uninit();
    // SAFETY: all-zero is a valid msghdr: no name, no buffers.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut iovec;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: the message points to buffers of the lengths said, which live through the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let len = usize::try_from(got).map_err(|_| last_error())?;
    Ok(Received { len, segment: segment_of(&message), cut: message.msg_flags & libc::MSG_TRUNC != 0 })
}

/// The UDP_GRO control message's value, 0 without one.
fn segment_of(message: &libc::msghdr) -> usize {
    // SAFETY: the kernel has filled the control buffer up to the length it set in the header, and the CMSG walk stays
    // within that length.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let here = ((*header).cmsg_level, (*header).cmsg_type);
            if here == (libc::SOL_UDP, libc::UDP_GRO) {
                let value = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(value).unwrap_or(0);
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    0
}

//! System calls that no safe crate offers on a borrowed socket: datagrams with segmentation and ECN, one call for many.
#![expect(
    unsafe_code,
    reason = "control messages of UDP and IP have no safe wrapper that leaves the socket in blocking mode"
)]

use std::mem::{MaybeUninit, size_of, size_of_val, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;
use socket2::{SockAddr, SockAddrStorage};

/// Room for all control messages of one call: segment size, ECN, source address.
const CONTROL: usize = 128;

#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL]);

/// One or more datagrams to one place.
pub(super) struct Outgoing<'a> {
    pub(super) bytes: &'a [u8],
    /// Length of each datagram but the last; `None`: it is one.
    pub(super) segment: Option<u16>,
    /// The two ECN bits of the IP header.
    pub(super) ecn: u8,
    /// IPv4 on the wire.
    pub(super) v4: bool,
    /// `None`: to where the socket is connected.
    pub(super) to: Option<&'a SockAddr>,
    /// With `to`: from which of the host's addresses.
    pub(super) from: Option<IpAddr>,
}

/// One or more datagrams from one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    /// Bytes, all datagrams together.
    pub(super) len: usize,
    /// Length of each datagram but the last.
    pub(super) segment: usize,
    pub(super) ecn: u8,
    /// Their source, if it was asked for.
    pub(super) from: Option<SocketAddr>,
    /// They were longer than the buffer.
    pub(super) cut: bool,
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Sets an option of which the value is a C int.
pub(super) fn set(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> Result<(), Errno> {
    // SAFETY: the value is a c_int that lives through the call, and its size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

impl Control {
    fn new() -> Self {
        Self([MaybeUninit::uninit(); CONTROL])
    }

    /// Writes one message behind the first `used` bytes; how many are used then. `T` is plain data of the kernel's.
    fn push<T: Copy>(&mut self, used: usize, level: i32, kind: i32, value: T) -> usize {
        let len = size_of_val(&value) as u32;
        // SAFETY: these only compute.
        let (space, header_len, all) =
            unsafe { (libc::CMSG_SPACE(len) as usize, libc::CMSG_LEN(0) as usize, libc::CMSG_LEN(len) as usize) };
        assert!(used + space <= CONTROL, "the control messages of one call fit");
        let header = libc::cmsghdr { cmsg_len: all, cmsg_level: level, cmsg_type: kind };
        // SAFETY: `used + space` bytes are within the buffer (asserted), `all <= space`, and both writes are unaligned ones.
        unsafe {
            let at = self.0.as_mut_ptr().add(used).cast::<u8>();
            // Padding must not carry what was on the stack.
            at.write_bytes(0, space);
            at.cast::<libc::cmsghdr>().write_unaligned(header);
            at.add(header_len).cast::<T>().write_unaligned(value);
        }
        used + space
    }
}

/// Sends; all or nothing.
pub(super) fn send(socket: BorrowedFd<'_>, out: &Outgoing<'_>) -> Result<(), Errno> {
    let mut control = Control::new();
    let mut used = match out.v4 {
        true => control.push(0, libc::IPPROTO_IP, libc::IP_TOS, i32::from(out.ecn)),
        false => control.push(0, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, i32::from(out.ecn)),
    };
    if let Some(segment) = out.segment {
        used = control.push(used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
    }
    match out.from {
        Some(IpAddr::V4(ip)) => {
            let spec = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec, ipi_addr: libc::in_addr { s_addr: 0 } };
            used = control.push(used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(ip)) => {
            let info = libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: libc::in6_addr { s6_addr: ip.octets() } };
            used = control.push(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        None => {}
    }
    let mut iovec = libc::iovec { iov_base: out.bytes.as_ptr().cast_mut().cast(), iov_len: out.bytes.len() };
    // SAFETY: all-zero is a valid msghdr: no name, no buffers.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut iovec;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = used;
    if let Some(to) = out.to {
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
    }
    // SAFETY: all that the message points to lives through the call, which only reads it; `used` bytes of the control
    // buffer have been written.
    let sent =
        unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if sent >= 0 { Ok(()) } else { Err(last_error()) }
}

/// Receives; `named`: says from where.
pub(super) fn receive(socket: BorrowedFd<'_>, into: &mut [u8], named: bool) -> Result<Incoming, Errno> {
    let mut control = Control::new();
    let mut iovec = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut name = SockAddrStorage::zeroed();
    // SAFETY: all-zero is a valid msghdr: no name, no buffers.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut iovec;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL;
    if named {
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = name.size_of();
    }
    // SAFETY: the message points to buffers of the lengths said, which live through the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let len = usize::try_from(got).map_err(|_| last_error())?;
    let (segment, ecn) = told(&message, len);
    // SAFETY: the kernel has written an address of the length it says.
    let from = if named { unsafe { SockAddr::new(name, message.msg_namelen) }.as_socket() } else { None };
    Ok(Incoming { len, segment, ecn, from, cut: message.msg_flags & libc::MSG_TRUNC != 0 })
}

/// Segment size and ECN bits of a received message.
fn told(message: &libc::msghdr, len: usize) -> (usize, u8) {
    let (mut segment, mut ecn) = (len, 0);
    // SAFETY: the kernel has filled the control buffer up to the length it set in the header, and the CMSG walk stays
    // within that length; the values are of the types that the kernel writes.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment = usize::try_from(data.cast::<libc::c_int>().read_unaligned()).unwrap_or(len);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => ecn = data.read() & 0b11,
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    ecn = (data.cast::<libc::c_int>().read_unaligned() & 0b11) as u8;
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    (segment.max(1), ecn)
}

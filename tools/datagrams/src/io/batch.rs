//! Many datagrams per system call, each with where it came from, where it came to, and how the kernel joined it with others.
#![expect(unsafe_code, reason = "sendmmsg, recvmmsg and their control messages have no safe wrapper")]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

/// Messages per call.
pub const MANY: usize = 32;
/// Room of a message: what the kernel joins at most.
const STRIDE: usize = 65_536;

/// Room for control messages: a packet's local address and its segments' length, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 96]);

/// Messages in memory. One for each thread is enough: they are used between two waits.
pub struct Batch {
    storage: Vec<u8>,
    received: [Received; MANY],
    len: usize,
}

/// What is known of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes, those of all its datagrams.
    pub len: usize,
    /// Bytes of each datagram but the last; 0: it is one.
    pub segment: usize,
    /// Who sent it; none on a connected socket.
    pub from: Option<SocketAddr>,
    /// Which address of this host it was sent to, where the socket was [told to say](say_local). Of a broadcast: the one that is
    /// to answer.
    pub to: Option<IpAddr>,
}

/// A message that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// Its bytes, those of all its datagrams.
    pub bytes: &'a [u8],
    /// Bytes of each datagram but the last; 0: it is one.
    pub segment: usize,
    /// To whom; none on a connected socket.
    pub to: Option<SocketAddr>,
    /// From which address of this host.
    pub from: Option<IpAddr>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self { storage: vec![0; MANY * STRIDE], received: [Received::default(); MANY], len: 0 }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Messages in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether no more fit.
    pub fn is_full(&self) -> bool {
        self.len == MANY
    }

    /// A message and its bytes.
    pub fn get(&self, place: usize) -> (Received, &[u8]) {
        let received = self.received[place];
        (received, &self.storage[place * STRIDE..][..received.len])
    }

    /// Receives what there is room for, behind what there is; how many messages. Does not wait. Cut messages are left out.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.receive_some(socket, MANY)
    }

    /// The same, and so many at most: where there is one, the kernel need not look for a second.
    pub fn receive_some(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let mut iovecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MANY];
        let mut controls = [MaybeUninit::<Control>::uninit(); MANY];
        let mut names = [MaybeUninit::<libc::sockaddr_in6>::uninit(); MANY];
        // SAFETY: all-zero is a valid mmsghdr.
        let mut messages: [libc::mmsghdr; MANY] = unsafe { zeroed() };
        let room = self.storage[self.len * STRIDE..].chunks_exact_mut(STRIDE);
        let mut count = 0;
        for (((place, iovec), (control, name)), message) in
            room.zip(&mut iovecs).take(most).zip(controls.iter_mut().zip(&mut names)).zip(&mut messages)
        {
            *iovec = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of::<Control>();
            message.msg_hdr.msg_name = name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            count += 1;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the first `count` messages point to buffers, control buffers and names of their own, of the lengths said,
        // which live through the call; no timeout is passed.
        let got =
            unsafe { libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, flags, std::ptr::null_mut()) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let first = self.len;
        for (place, message) in messages.iter().take(got).enumerate() {
            let header = &message.msg_hdr;
            let whole = header.msg_flags & libc::MSG_TRUNC == 0;
            let (segment, to) = controls_of(header);
            let len = if whole { message.msg_len as usize } else { usize::MAX };
            self.received[first + place] = Received { len, segment, from: name_of(header), to };
        }
        self.len += got;
        self.drop_cut(first);
        Ok(self.len - first)
    }

    /// A message that was longer than the kernel ever joins: it cannot be, and is not passed on cut.
    fn drop_cut(&mut self, first: usize) {
        let mut keep = first;
        for place in first..self.len {
            let received = self.received[place];
            if received.len == usize::MAX {
                continue;
            }
            if keep != place {
                self.storage.copy_within(place * STRIDE..place * STRIDE + received.len, keep * STRIDE);
                self.received[keep] = received;
            }
            keep += 1;
        }
        self.len = keep;
    }
}

/// Sends up to [`MANY`] messages; how many went. An error is that of the first. Does not wait.
pub fn send(socket: BorrowedFd<'_>, sending: &[Sending<'_>]) -> io::Result<usize> {
    let mut iovecs = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MANY];
    let mut controls = [Control([0; 96]); MANY];
    // SAFETY: all-zero is a valid sockaddr_in6, and a valid mmsghdr.
    let (mut names, mut messages): ([libc::sockaddr_in6; MANY], [libc::mmsghdr; MANY]) =
        unsafe { (zeroed(), zeroed()) };
    let mut count = 0;
    for (((sending, iovec), (control, name)), message) in
        sending.iter().zip(&mut iovecs).zip(controls.iter_mut().zip(&mut names)).zip(&mut messages)
    {
        *iovec = libc::iovec { iov_base: sending.bytes.as_ptr().cast_mut().cast(), iov_len: sending.bytes.len() };
        message.msg_hdr.msg_iov = iovec;
        message.msg_hdr.msg_iovlen = 1;
        if let Some(to) = sending.to {
            message.msg_hdr.msg_name = (name as *mut libc::sockaddr_in6).cast();
            message.msg_hdr.msg_namelen = put_name(name, to);
        }
        put_controls(&mut message.msg_hdr, control, sending);
        count += 1;
    }
    // SAFETY: the first `count` messages and all that they point to live through the call, which only reads them.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// The kernel joins datagrams of one sender that come together.
pub fn join(socket: impl AsFd) {
    // Without it (kernels before 5.0) each message is one datagram.
    let _ = set(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO);
}

/// The kernel says to which address of this host each datagram came.
pub fn say_local(socket: impl AsFd, v6: bool) -> io::Result<()> {
    match v6 {
        // Of what comes over IPv4, too, which says the address of this host even for a broadcast.
        true => {
            set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
            set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO)
        }
        false => set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO),
    }
}

fn set(socket: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is a c_int that lives through the call, and its size is passed.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The segments' length and the local address that the kernel told.
fn controls_of(header: &libc::msghdr) -> (usize, Option<IpAddr>) {
    let (mut segment, mut to) = (0, None);
    // SAFETY: the kernel has filled the control buffer up to the length it set in the header, the walk stays within that
    // length, and each value is read as the type that the kernel gives with that level and type.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            let data = libc::CMSG_DATA(control);
            match ((*control).cmsg_level, (*control).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment = usize::try_from(data.cast::<libc::c_int>().read_unaligned()).unwrap_or(0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    // Where a broadcast goes to is nobody's address to answer from.
                    let own = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                    to = Some(if to.is_some_and(|to: IpAddr| to.is_ipv6()) {
                        own.to_ipv6_mapped().into()
                    } else {
                        own.into()
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => {}
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    (segment, to)
}

fn put_controls(header: &mut libc::msghdr, control: &mut Control, sending: &Sending<'_>) {
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>();
    let mut used = 0;
    // SAFETY: the buffer is aligned and has room for both control messages, of 24 and at most 40 bytes, so that each header
    // and its value lie within it.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        let mut put = |level: i32, kind: i32, value: &[u8]| {
            (*at).cmsg_level = level;
            (*at).cmsg_type = kind;
            (*at).cmsg_len = libc::CMSG_LEN(value.len() as u32) as usize;
            std::ptr::copy_nonoverlapping(value.as_ptr(), libc::CMSG_DATA(at), value.len());
            let space = libc::CMSG_SPACE(value.len() as u32) as usize;
            used += space;
            at = at.byte_add(space);
        };
        if let Some(segment) =
            u16::try_from(sending.segment).ok().filter(|_| (1..sending.bytes.len()).contains(&sending.segment))
        {
            put(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        match sending.from {
            // in_pktinfo: interface (any), local address, and one that sending does not look at.
            Some(IpAddr::V4(from)) => {
                let mut value = [0; size_of::<libc::in_pktinfo>()];
                value[4..8].copy_from_slice(&from.octets());
                put(libc::IPPROTO_IP, libc::IP_PKTINFO, &value);
            }
            // in6_pktinfo: local address, interface (any).
            Some(IpAddr::V6(from)) => {
                let mut value = [0; size_of::<libc::in6_pktinfo>()];
                value[..16].copy_from_slice(&from.octets());
                put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &value);
            }
            None => {}
        }
    }
    header.msg_controllen = used;
    if used == 0 {
        header.msg_control = std::ptr::null_mut();
    }
}

fn name_of(header: &libc::msghdr) -> Option<SocketAddr> {
    let len = header.msg_namelen as usize;
    if header.msg_name.is_null() || len < size_of::<libc::sockaddr_in>() {
        return None;
    }
    // SAFETY: the name is at least a sockaddr_in long; its family says what it is, and one of IPv6 is read only where the
    // kernel wrote as many bytes. The buffer is a sockaddr_in6, so it is aligned for both.
    unsafe {
        match i32::from((*header.msg_name.cast::<libc::sockaddr_in>()).sin_family) {
            libc::AF_INET => {
                let name = *header.msg_name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
            }
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
                let name = *header.msg_name.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// Writes an address into a name; its length.
fn put_name(name: &mut libc::sockaddr_in6, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: all-zero is a valid sockaddr_in.
            let mut short: libc::sockaddr_in = unsafe { zeroed() };
            short.sin_family = libc::AF_INET as libc::sa_family_t;
            short.sin_port = v4.port().to_be();
            short.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            // SAFETY: a sockaddr_in6 has room for a sockaddr_in and is aligned as much.
            unsafe { (name as *mut libc::sockaddr_in6).cast::<libc::sockaddr_in>().write(short) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = v6.port().to_be();
            name.sin6_addr.s6_addr = v6.ip().octets();
            name.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests;

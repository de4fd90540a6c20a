//! An AF_PACKET socket: what passes the devices of this network, both ways.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use capture::{LONGEST, Offload};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::machine::capture::filter::Instruction;

/// What may wait to be read, bytes: a burst at 10 Gbit/s for 25 ms.
const QUEUE: libc::c_int = 32 << 20;

/// Reads what passes.
pub(super) struct PacketSocket {
    socket: Socket,
    buffer: Vec<u8>,
    /// The kernel says beside each packet what is left to do on it.
    tells: bool,
}

/// A packet.
pub(super) struct Received<'a> {
    /// From its link header on.
    pub(super) packet: &'a [u8],
    /// Where its IP header begins.
    pub(super) net: usize,
    /// The device's number, and what kind it is (`ARPHRD_…`).
    pub(super) device: u32,
    pub(super) hardware: u16,
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    /// What the device was left to do.
    pub(super) offload: Offload,
}

impl PacketSocket {
    /// At one device, or at all. Needs CAP_NET_RAW in the user namespace of the network that this process is in.
    pub(super) fn open(filter: &[Instruction], device: Option<u32>) -> io::Result<Self> {
        // No protocol yet: nothing is to come in before the filter is there.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        if set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, QUEUE).is_err() {
            // As much as who is not root may have.
            let _ = set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, QUEUE);
        }
        set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        let tells = set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1).is_ok();
        let filter: Vec<SockFilter> =
            filter.iter().map(|one| SockFilter::new(one.code, one.then, one.other, one.k)).collect();
        socket.attach_filter(&filter)?;
        bind(&socket, device.unwrap_or(0))?;
        Ok(Self { socket, buffer: vec![0; Offload::LENGTH + LONGEST], tells })
    }

    /// The next packet; none where none waits.
    pub(super) fn receive(&mut self) -> io::Result<Option<Received<'_>>> {
        let (length, meta) = loop {
            match receive(&self.socket, &mut self.buffer) {
                Ok(found) => break found,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Kernels before 6.2 have no word for a datagram that is many; then it is written as it is.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && self.tells => {
                    set(&self.socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 0)?;
                    self.tells = false;
                }
                // That a device went down is no reason to stop listening at the others.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) => return Err(error),
            }
        };
        let head = if self.tells { Offload::LENGTH } else { 0 };
        let whole = &self.buffer[..length];
        let offload = whole.first_chunk().filter(|_| self.tells).map(Offload::read).unwrap_or_default();
        let packet = whole.get(head..).unwrap_or(&[]);
        let Meta { net, device, hardware, time } = meta;
        Ok(Some(Received { packet, net: net.min(packet.len()), device, hardware, time, offload }))
    }

    /// The kernel says where large datagrams are to be cut.
    pub(super) fn cuts(&self) -> bool {
        self.tells
    }

    /// Packets that were let through, and those of them that found the queue full, since the beginning. Asked once.
    pub(super) fn statistics(&self) -> (u64, u64) {
        // SAFETY: all zero is a valid tpacket_stats.
        let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes of a live value.
        let result = unsafe {
            let to = (&raw mut stats).cast();
            libc::getsockopt(self.socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, to, &raw mut length)
        };
        if result < 0 { (0, 0) } else { (stats.tp_packets.into(), stats.tp_drops.into()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of a live value.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn bind(socket: &Socket, device: u32) -> io::Result<()> {
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = device.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address outlives the call and is as long as said.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What the kernel says of a packet.
#[derive(Default)]
struct Meta {
    net: usize,
    device: u32,
    hardware: u16,
    time: u64,
}

/// Room for what comes beside a packet, aligned as its headers must be.
#[repr(align(8))]
struct Beside([u8; 256]);

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Meta)> {
    // SAFETY: all zero is a valid sockaddr_ll and a valid msghdr: no buffers.
    let (mut address, mut message): (libc::sockaddr_ll, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut beside = Beside([0; 256]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = beside.0.as_mut_ptr().cast();
    message.msg_controllen = beside.0.len();
    // SAFETY: every pointer of the message is to a live value of the length that stands beside it.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut meta =
        Meta { device: address.sll_ifindex.cast_unsigned(), hardware: address.sll_hatype, ..Meta::default() };
    // SAFETY: the kernel filled in the message; the macros stay within msg_controllen of its control buffer, and each
    // value is read only where its header says that it is there whole.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let (level, kind, size) = ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len);
            let data = libc::CMSG_DATA(header);
            let holds = |bytes: usize| size >= libc::CMSG_LEN(bytes as libc::c_uint) as usize;
            if (level, kind) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) && holds(size_of::<libc::tpacket_auxdata>()) {
                let told: libc::tpacket_auxdata = std::ptr::read_unaligned(data.cast());
                meta.net = told.tp_net.into();
            } else if (level, kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) && holds(size_of::<libc::timespec>()) {
                let told: libc::timespec = std::ptr::read_unaligned(data.cast());
                let (s, ns) = (told.tv_sec.cast_unsigned(), told.tv_nsec.cast_unsigned());
                meta.time = s.saturating_mul(1_000_000_000).saturating_add(ns);
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok((length, meta))
}

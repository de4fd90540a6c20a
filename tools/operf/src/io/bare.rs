//! A bare connected UDP socket, as a program without Flowring would use it: blocking, UDP_SEGMENT and UDP_GRO for batches.

use std::io::{Error, ErrorKind, Result};
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::carrier::{Carrier, Gone, Reins};

/// Room for what one receive brings: the kernel coalesces up to 64 KiB.
const ROOM: usize = 65_536;

/// Said when [`super::watch`] shut the socket.
const SHUT: &str = "the peer was silent for too long";

/// A connected socket.
pub(crate) struct Bare {
    socket: UdpSocket,
    room: Box<[u8]>,
    /// SO_RCVTIMEO as last set; setting it costs a system call, which the loops must not pay.
    wait: Option<Duration>,
}

impl Bare {
    /// A socket of its own, connected to `peer`.
    pub(crate) fn dial(peer: SocketAddr) -> Result<Self> {
        let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(peer)?;
        Ok(Self::new(socket))
    }

    /// Around a connected socket.
    pub(crate) fn new(socket: UdpSocket) -> Self {
        // Refused by old kernels: then each receive brings one SDU.
        let _ = set_gro(&socket);
        Self { socket, room: vec![0; ROOM].into(), wait: None }
    }

    fn set_wait(&mut self, wait: Option<Duration>) -> Result<()> {
        if self.wait != wait {
            self.socket.set_read_timeout(wait.map(|wait| wait.max(Duration::from_micros(1))))?;
            self.wait = wait;
        }
        Ok(())
    }
}

/// Tells what passes from what lasts.
fn survives(error: &Error) -> bool {
    // ENOBUFS: the sending queue is full; like a lost datagram.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
        || error.raw_os_error() == Some(libc::ENOBUFS)
}

fn gone(error: Error) -> Gone {
    Gone(match error.kind() {
        ErrorKind::ConnectionRefused => "the peer's port is closed".to_owned(),
        _ => error.to_string(),
    })
}

impl Carrier for Bare {
    fn reins(&self) -> Result<Box<dyn Reins>> {
        Ok(Box::new(OwnedFd::from(self.socket.try_clone()?)))
    }

    fn send(&mut self, sdu: &[u8]) -> std::result::Result<bool, Gone> {
        match self.socket.send(sdu) {
            Ok(_) => Ok(true),
            Err(error) if survives(&error) => Ok(false),
            Err(error) => Err(gone(error)),
        }
    }

    fn recv(&mut self, room: &mut [u8]) -> std::result::Result<usize, Gone> {
        self.set_wait(None).map_err(gone)?;
        loop {
            match self.socket.recv(room) {
                // An empty datagram, or the end after a shutdown.
                Ok(0) => return Err(Gone(SHUT.to_owned())),
                Ok(len) => return Ok(len),
                Err(error) if survives(&error) => {}
                Err(error) => return Err(gone(error)),
            }
        }
    }

    fn recv_within(&mut self, room: &mut [u8], wait: Duration) -> std::result::Result<Option<usize>, Gone> {
        self.set_wait(Some(wait)).map_err(gone)?;
        match self.socket.recv(room) {
            Ok(len) => Ok(Some(len)),
            Err(error) if survives(&error) => Ok(None),
            Err(error) => Err(gone(error)),
        }
    }

    fn send_batch(&mut self, sdus: &[u8], size: usize) -> std::result::Result<u64, Gone> {
        match send_segments(&self.socket, sdus, size) {
            Ok(()) => Ok(sdus.len().div_ceil(size) as u64),
            Err(error) if survives(&error) => Ok(0),
            Err(error) => Err(gone(error)),
        }
    }

    fn recv_batch(&mut self, each: &mut dyn FnMut(&[u8])) -> std::result::Result<(), Gone> {
        self.set_wait(None).map_err(gone)?;
        loop {
            match recv_segments(&self.socket, &mut self.room) {
                Ok((0, _)) => return Err(Gone(SHUT.to_owned())),
                Ok((len, size)) => {
                    self.room[..len].chunks(size).for_each(each);
                    return Ok(());
                }
                Err(error) if survives(&error) => {}
                Err(error) => return Err(gone(error)),
            }
        }
    }
}

fn set_gro(socket: &UdpSocket) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, `on` is one and outlives the call; the descriptor is open.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Room for one control message, aligned as the kernel writes it.
#[repr(C, align(8))]
struct Control(MaybeUninit<[u8; 32]>);

fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: msghdr is plain data for which all zeros are valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    message
}

fn send_segments(socket: &UdpSocket, sdus: &[u8], size: usize) -> Result<()> {
    let segment = u16::try_from(size).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
    let mut part = libc::iovec { iov_base: sdus.as_ptr().cast_mut().cast(), iov_len: sdus.len() };
    let mut control = Control(MaybeUninit::zeroed());
    let mut message = message(&mut part, &mut control);
    // SAFETY: `control` has room for a header and two bytes (CMSG_SPACE(2) = 24), aligned; CMSG_FIRSTHDR points into it.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(2) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(2) as usize;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
    }
    // SAFETY: all that `message` points to lives until after the call, which only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// The bytes received, and the size of each SDU among them (the last may be shorter).
fn recv_segments(socket: &UdpSocket, room: &mut [u8]) -> Result<(usize, usize)> {
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let mut control = Control(MaybeUninit::zeroed());
    let mut message = message(&mut part, &mut control);
    // SAFETY: `message` points to `room` and `control`, both writable for their stated lengths during the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let len = usize::try_from(len).map_err(|_| Error::last_os_error())?;
    // SAFETY: the kernel wrote whole control messages and their total length; CMSG_* stay within it.
    let segment = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let ours = !header.is_null() && (*header).cmsg_level == libc::SOL_UDP && (*header).cmsg_type == libc::UDP_GRO;
        if ours { libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned() } else { 0 }
    };
    Ok((len, usize::try_from(segment).ok().filter(|size| *size > 0).unwrap_or(len)))
}

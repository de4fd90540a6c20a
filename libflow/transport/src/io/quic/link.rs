//! A flow's socket as the adapter keeps it: what was set on it, where it sends, whether it is shut.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use noq::udp::Transmit;
use noq::{Connection, WeakConnectionHandle};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketAddrAny;
use socket2::{SockAddr, SockRef};
use tokio::sync::Notify;

use super::syscalls::{self, Incoming, Outgoing};
use crate::Path;
use crate::machine::quic::verdict::ABORTED;

/// Tries to dissolve a connection, against sends at the same moment.
const DISSOLVED: u32 = 16;

/// ICMP errors that may answer one send before it counts as sent and lost.
const RETRIES: usize = 4;
/// Queues of the kernel that hold what bulk brings while the program does something else, bytes. The kernel cuts it to
/// its own limit.
const KERNEL_QUEUE: usize = 2 << 20;

/// Shared by the adapter, its senders and the flow.
pub(super) struct Link {
    path: Arc<dyn Path>,
    socket: Arc<OwnedFd>,
    /// The peer at first. The asking side's library never sees another, nor that of a flow that may move.
    peer: SocketAddr,
    /// This host's address towards the peer.
    local: SocketAddr,
    v4: bool,
    /// The accepting side: sends name their destination, datagrams their source.
    named: bool,
    /// A flow that may move: the same, but to where the path says, and the library sees one peer. Its own migration leaves a server mute
    /// (noq 1.4) whose client cannot answer the challenge in time, as one cannot whose path was gone for a while.
    directed: bool,
    /// The socket is bound to no address of this host: the kernel says from which of them it sends.
    anywhere: AtomicBool,
    /// The device or the kernel cannot segment.
    unsegmented: AtomicBool,
    /// How often the flow went to another path.
    moves: Arc<AtomicU64>,
    /// Strangers get no answer: what the endpoint says without a connection is not sent.
    quiet: AtomicBool,
    shut: AtomicBool,
    shutting: Notify,
    connection: OnceLock<WeakConnectionHandle>,
}

impl Link {
    /// Sets the socket, which must be connected, up for QUIC.
    pub(super) fn new(path: Arc<dyn Path>, named: bool) -> io::Result<Arc<Self>> {
        let socket = path.socket();
        let peer = inet(rustix::net::getpeername(&socket)?)?;
        let local = inet(Some(rustix::net::getsockname(&socket)?))?;
        let v4 = on_wire(peer.ip()).is_ipv4();
        let directed = path.goes_to().is_some();
        set_up(socket.as_fd(), local.is_ipv6())?;
        Ok(Arc::new(Self {
            path,
            socket,
            peer: plain(peer),
            local,
            v4,
            named,
            directed,
            anywhere: AtomicBool::new(false),
            unsegmented: AtomicBool::new(false),
            moves: Arc::default(),
            quiet: AtomicBool::new(!named),
            shut: AtomicBool::new(false),
            shutting: Notify::new(),
            connection: OnceLock::new(),
        }))
    }

    pub(super) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    pub(super) fn path(&self) -> &dyn Path {
        &*self.path
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn is_v4(&self) -> bool {
        self.v4
    }

    pub(super) fn segments(&self) -> bool {
        !self.unsegmented.load(Ordering::Relaxed)
    }

    /// For who wants to know how often the flow went to another path.
    pub(super) fn moves(&self) -> Arc<AtomicU64> {
        self.moves.clone()
    }

    /// The flow has another path, perhaps of another device.
    pub(super) fn moved(&self) {
        self.unsegmented.store(false, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Ends with the socket: the library itself would go on until its idle timeout.
    pub(super) fn carries(&self, connection: &Connection) {
        let _ = self.connection.set(connection.weak_handle());
        if self.is_shut() {
            connection.close(ABORTED, b"");
        }
    }

    /// From now on datagrams may come from anywhere, and the library's path validation follows a client whose address
    /// changes. A socket that was bound to no address of this host has whichever there is from now on, also when that changes.
    pub(super) fn dissolve(&self) -> io::Result<()> {
        // A port that the kernel chose is given back by that; the next holder of it must not be somebody else. A send at this very
        // moment binds the socket to another one: then it is dissolved once more.
        for _ in 0..DISSOLVED {
            rustix::net::connect_unspec(&self.socket)?;
            let now = inet(Some(rustix::net::getsockname(&self.socket)?))?;
            if now.port() == self.local.port() {
                self.anywhere.store(now.ip().is_unspecified(), Ordering::Relaxed);
                return Ok(());
            }
            match rustix::net::bind(&self.socket, &self.local) {
                Err(Errno::INVAL) => {}
                done => return Ok(done?),
            }
        }
        Err(Errno::INVAL.into())
    }

    /// From now on only the flow's peer gets answers.
    pub(super) fn hush(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// Ends when the socket is shut down.
    pub(super) async fn shut(&self) {
        let shutting = self.shutting.notified();
        if !self.is_shut() {
            shutting.await;
        }
    }

    /// The kernel says that the socket was shut down.
    pub(super) fn was_shut(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let asked = rustix::event::poll(&mut fds, Some(&Timespec::default()));
        asked.is_ok() && fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
    }

    /// The socket was found shut down. Not to be called by what sends: that holds the connection's lock.
    pub(super) fn found_shut(&self) {
        if self.shut.swap(true, Ordering::AcqRel) {
            return;
        }
        self.path.closed();
        self.shutting.notify_waiters();
        if let Some(connection) = self.connection.get().and_then(WeakConnectionHandle::upgrade)
            && connection.close_reason().is_none()
        {
            connection.close(ABORTED, b"");
        }
    }

    /// Receives what is next.
    pub(super) fn receive(&self, into: &mut [u8]) -> Result<Incoming, Errno> {
        syscalls::receive(self.fd(), into, self.named || self.directed)
    }

    /// Where a received datagram comes from, and where the library is to see it come from.
    pub(super) fn source(&self, from: Option<SocketAddr>) -> (SocketAddr, SocketAddr) {
        let source = from.map_or(self.peer, plain);
        (source, if self.directed { self.peer } else { source })
    }

    /// Whether the flow may move.
    pub(super) fn is_directed(&self) -> bool {
        self.directed
    }

    /// Sends. `Err`: there is no room now; all other trouble is datagrams lost, which the library notices.
    pub(super) fn send(&self, transmit: &Transmit<'_>, target: &mut Target) -> Result<(), NoRoom> {
        let Some(segment) = transmit.segment_size.filter(|size| *size < transmit.contents.len()) else {
            return self.send_some(transmit, transmit.contents, None, target);
        };
        if self.segments() {
            self.send_some(transmit, transmit.contents, u16::try_from(segment).ok(), target)?;
            if self.segments() {
                return Ok(());
            }
        }
        for datagram in transmit.contents.chunks(segment) {
            // No room for one of them: those behind it are lost.
            self.send_some(transmit, datagram, None, target).or_else(|no_room| {
                if std::ptr::eq(datagram.as_ptr(), transmit.contents.as_ptr()) { Err(no_room) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    fn send_some(
        &self,
        transmit: &Transmit<'_>,
        bytes: &[u8],
        segment: Option<u16>,
        target: &mut Target,
    ) -> Result<(), NoRoom> {
        let ecn = transmit.ecn.map_or(0, |ecn| ecn as u8);
        let to = match self.directed {
            true => Some(target.of(self.path.goes_to().unwrap_or(self.peer))),
            false => self.named.then(|| target.of(transmit.destination)),
        };
        let from = (to.is_some() && !self.anywhere.load(Ordering::Relaxed)).then(|| self.local.ip());
        let out = Outgoing { bytes, segment, ecn, v4: self.v4, to, from };
        for _ in 0..RETRIES {
            match syscalls::send(self.fd(), &out) {
                Ok(()) => {
                    let count = segment.map_or(1, |segment| bytes.len().div_ceil(usize::from(segment)));
                    self.path.sent(count as u64, bytes.len() as u64);
                    return Ok(());
                }
                Err(Errno::AGAIN) => return Err(NoRoom),
                Err(Errno::INTR) => {}
                // An earlier datagram's answer, told once: not this one's failure.
                Err(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH) => self.path.suspect(),
                // The device has no checksum offload, or the kernel no segmentation.
                Err(Errno::IO | Errno::INVAL) if segment.is_some() => {
                    self.unsegmented.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                // Longer than the device takes: a probe of the path's MTU.
                Err(Errno::MSGSIZE) => return Ok(()),
                // Shut down: whoever receives finds that, too, and does not hold the connection's lock.
                Err(Errno::PIPE) => return Ok(()),
                Err(_) => break,
            }
        }
        self.path.send_failed();
        Ok(())
    }
}

/// The kernel has no room for another datagram.
pub(super) struct NoRoom;

/// The last destination, as the kernel takes it.
#[derive(Default)]
pub(super) struct Target(Option<(SocketAddr, SockAddr)>);

impl Target {
    fn of(&mut self, to: SocketAddr) -> &SockAddr {
        if self.0.as_ref().is_none_or(|(known, _)| *known != to) {
            self.0 = None;
        }
        &self.0.get_or_insert_with(|| (to, to.into())).1
    }
}

/// An address of the internet.
fn inet(address: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a connected UDP socket");
    address.and_then(|it| SocketAddr::try_from(it).ok()).ok_or_else(none)
}

/// The address on the wire.
fn on_wire(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Without what differs between datagrams of one source.
fn plain(mut address: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(address) = &mut address {
        address.set_flowinfo(0);
    }
    address
}

fn set_up(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    use libc::{IPPROTO_IP, IPPROTO_IPV6, SOL_UDP};
    // Never fragmented, whatever the kernel believes the path's MTU to be: the library finds it out. For IPv4 in an IPv6
    // socket, too.
    syscalls::set(socket, IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    syscalls::set(socket, IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    if v6 {
        syscalls::set(socket, IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
        syscalls::set(socket, IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
        syscalls::set(socket, IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    }
    // Without it (kernels before 5.0) each message brings one datagram.
    let _ = syscalls::set(socket, SOL_UDP, libc::UDP_GRO, 1);
    let socket = SockRef::from(&socket);
    if socket.recv_buffer_size().is_ok_and(|size| size < KERNEL_QUEUE) {
        let _ = socket.set_recv_buffer_size(KERNEL_QUEUE);
    }
    if socket.send_buffer_size().is_ok_and(|size| size < KERNEL_QUEUE) {
        let _ = socket.set_send_buffer_size(KERNEL_QUEUE);
    }
    Ok(())
}

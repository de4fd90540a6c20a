//! UDP sockets: the listen port, and the flows' own.
//!
//! A flow's socket is shared with its program, down to its flags: it stays in blocking mode, and every call here says
//! MSG_DONTWAIT.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use handoff::filter as queue;
pub(super) use handoff::filter::all_read;
use proto::v1::{Failure, FailureKind};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt};

use super::shared::guard;
use super::{filter, sockopt as own};
use crate::machine::{Filter, OpenError, Unreachable};

/// Room for the longest datagram.
pub(super) const LONGEST: usize = 65_536;

/// Receive queue of the listen port, bytes: a burst of some thousand requests or deallocs. As much of it as the
/// system allows.
const LISTEN_QUEUE: usize = 4 << 20;

/// The listen port, open.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    /// Where flows share the port: keeps other ipcpds from sharing it, too.
    pub(super) guard: Option<OwnedFd>,
}

/// Opens the listen port. `shared`: flows' sockets will be on it, too, and some of an earlier start may be there.
pub(super) fn listen(at: SocketAddr, shared: bool) -> Result<Listener, Failure> {
    let guard = if shared { Some(guard(at)?) } else { None };
    let fail = |kind, text: String| Failure::new(kind, text);
    let opened = if shared { reuse(at) } else { bound(at) };
    let socket = opened.map_err(|errno| match errno {
        Errno::ADDRINUSE => fail(
            FailureKind::AddressInUse,
            format!(
                "UDP port {} of {} is in use by another socket; stop it or choose --port (flows of an ipcpd-udp with \
                 --sp-range listen hold it, too)",
                at.port(),
                at.ip()
            ),
        ),
        Errno::ADDRNOTAVAIL => fail(
            FailureKind::NoSuchAddress,
            format!("{} is not an address of this host; give one that `ip address` shows", at.ip()),
        ),
        Errno::ACCESS => fail(
            FailureKind::NotPermitted,
            format!("UDP port {} may not be used by this user; choose --port above 1023 or run as root", at.port()),
        ),
        Errno::AFNOSUPPORT => {
            fail(FailureKind::NoSuchAddress, format!("this host does not speak the IP version of {}", at.ip()))
        }
        errno => fail(FailureKind::Internal, format!("UDP port {at} could not be opened: {errno}")),
    })?;
    // Beyond the system's limit only root may go.
    if sockopt::set_socket_recv_buffer_size_force(&socket, LISTEN_QUEUE).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(&socket, LISTEN_QUEUE);
    }
    Ok(Listener { socket, guard })
}

/// Bound beside others of this user. SO_REUSEADDR would let other users in.
fn reuse(at: SocketAddr) -> Result<OwnedFd, Errno> {
    let fd = unbound(at)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    net::bind(&fd, &at)?;
    Ok(fd)
}

/// Opens a flow's socket. `watch`: ICMP errors are wanted though it is not connected.
pub(super) fn open(at: SocketAddr, watch: bool) -> Result<(OwnedFd, SocketAddr), OpenError> {
    let other = |text: String| OpenError::Other(text);
    let fd = bound(at).map_err(|errno| match errno {
        Errno::ADDRINUSE => OpenError::PortInUse,
        Errno::ADDRNOTAVAIL => OpenError::NoSuchAddress,
        errno => exhausted(errno).unwrap_or_else(|| other(errno.to_string())),
    })?;
    if watch {
        own::report_errors(fd.as_fd(), at.is_ipv6(), true).map_err(|error| other(error.to_string()))?;
    }
    let local = local(fd.as_fd()).unwrap_or(at);
    Ok((fd, local))
}

/// Where a socket is bound.
pub(super) fn local(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    net::getsockname(fd).ok().and_then(|any| SocketAddr::try_from(any).ok())
}

/// All addresses of this host, of the IP version of one.
pub(super) fn any(of: IpAddr) -> IpAddr {
    if of.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn exhausted(errno: Errno) -> Option<OpenError> {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM).then_some(OpenError::Exhausted)
}

fn bound(at: SocketAddr) -> Result<OwnedFd, Errno> {
    let fd = unbound(at)?;
    net::bind(&fd, &at)?;
    Ok(fd)
}

fn unbound(at: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP))?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    Ok(fd)
}

/// Room for what waits at a catcher, bytes: some OPENs.
const CATCHER_QUEUE: usize = 16 << 10;

/// Opens a second, unconnected socket on the port of a connected one: what comes from the peer goes to that, what comes
/// from elsewhere to this.
///
/// They share the port for the moment of binding only, and under SO_REUSEPORT only: SO_REUSEADDR would let sockets of
/// other users in. With the option left on, older kernels choose between the two without looking who is connected, and
/// another process of this user could join them unnoticed.
pub(super) fn catcher(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let at = net::getsockname(fd)?;
    let at = SocketAddr::try_from(at).map_err(|_| Errno::AFNOSUPPORT)?;
    let catcher = unbound(at)?;
    let _ = sockopt::set_socket_recv_buffer_size(&catcher, CATCHER_QUEUE);
    sockopt::set_socket_reuseport(&catcher, true)?;
    sockopt::set_socket_reuseport(fd, true)?;
    let bound = net::bind(&catcher, &at);
    let _ = sockopt::set_socket_reuseport(&catcher, false);
    let _ = sockopt::set_socket_reuseport(fd, false);
    bound.map(|()| catcher)
}

/// Connects a flow's socket to another address, for all who hold it.
pub(super) fn move_to(fd: BorrowedFd<'_>, peer: SocketAddr) -> Result<(), Errno> {
    net::connect(fd, &peer)?;
    // What a middlebox said of the address before is not to end the program's next call.
    let _ = sockopt::socket_error(fd);
    Ok(())
}

/// Connects a flow's socket, and sets its filter unless that is left to the program. Gives the longest SDU, and how many
/// datagrams that were there before were dropped.
///
/// Between bind and connect anybody could fill the queue; a program must not see that. What the peer itself sent right
/// behind its answer stays. (A filter that lets no stranger in meanwhile costs the kernel 25 to 45 µs to compile, each
/// time; looking at the queue afterwards costs less than one, and is needed all the same.)
pub(super) fn connect(
    fd: BorrowedFd<'_>,
    peer: SocketAddr,
    filter: &Filter,
    buffer: &mut [u8],
) -> Result<(u32, u64), Errno> {
    net::connect(fd, &peer)?;
    never_fragment(fd, peer)?;
    // From here on errors are the program's to see, one by one.
    own::report_errors(fd, peer.is_ipv6(), false)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    if filter.left_to_program().is_none() {
        filter::attach(fd, filter)?;
    }
    // A filter lets nothing of the kind in any more, or the program drops it.
    let dropped = queue::clear(fd, buffer, |from, payload| from != Some(peer) || filter::drops(filter, payload));
    Ok((longest_sdu(fd, peer)?, dropped))
}

fn never_fragment(fd: BorrowedFd<'_>, peer: SocketAddr) -> Result<(), Errno> {
    if peer.is_ipv4() {
        sockopt::set_ip_mtu_discover(fd, sockopt::Ipv4PathMtuDiscovery::DO)
    } else {
        sockopt::set_ipv6_mtu_discover(fd, sockopt::Ipv6PathMtuDiscovery::DO)
    }
}

/// Of a connected socket.
fn longest_sdu(fd: BorrowedFd<'_>, peer: SocketAddr) -> Result<u32, Errno> {
    Ok(if peer.is_ipv4() {
        sockopt::ip_mtu(fd)?.saturating_sub(28).min(65_507)
    } else {
        sockopt::ipv6_mtu(fd)?.saturating_sub(48).min(65_527)
    })
}

/// A socket that is to share the listen port: not bound yet, because between bind and connect it would take what the
/// listener is to hear.
pub(super) fn reserve(listen: SocketAddr) -> Result<OwnedFd, OpenError> {
    let other = |errno: Errno| OpenError::Other(errno.to_string());
    let fd = unbound(listen).map_err(|errno| exhausted(errno).unwrap_or_else(|| other(errno)))?;
    sockopt::set_socket_reuseport(&fd, true).map_err(other)?;
    Ok(fd)
}

/// Binds that socket to the listen port.
pub(super) fn bind_beside(fd: BorrowedFd<'_>, listen: SocketAddr, peer: SocketAddr) -> Result<(), Errno> {
    never_fragment(fd, peer)?;
    net::bind(fd, &listen)
}

/// Connects it, at once; gives the longest SDU. The filter comes behind: the kernel compiles it for 20 to 45 µs, and by then
/// another processor that found the socket before it was connected has put its datagram into the queue.
pub(super) fn join(fd: BorrowedFd<'_>, peer: SocketAddr, filter: &Filter) -> Result<u32, Errno> {
    net::connect(fd, &peer)?;
    filter::attach(fd, filter)?;
    longest_sdu(fd, peer)
}

/// Takes the socket away from everybody: nothing arrives or leaves any more, a blocked receive ends, and no holder can
/// undo it. What arrived before can still be read.
pub(super) fn revoke(fd: BorrowedFd<'_>) {
    // Shutting down alone leaves the queue open to new datagrams.
    let filtered = filter::attach(fd, &Filter::Nothing);
    if let Err(errno) = filtered.and_then(|()| own::lock_filter(fd).map_err(|_| Errno::PERM)) {
        // A program may lock a filter of its own; it only keeps its own queue open.
        tracing::debug!(%errno, "the filter of a flow that is over could not be set");
    }
    let _ = net::shutdown(fd, Shutdown::Both);
}

/// The same where the peer has closed its end and nobody is to be kept from anything: at a tenth of the cost. Connected to
/// itself, the socket takes nothing from anybody; a peer that sends all the same hears that the port is closed.
pub(super) fn retire(fd: BorrowedFd<'_>) {
    let _ = net::shutdown(fd, Shutdown::Both);
    if let Some(own) = net::getsockname(fd).ok().and_then(|any| SocketAddr::try_from(any).ok()) {
        let _ = net::connect(fd, &own);
    }
}

/// Whether everything that was sent has left this host.
pub(super) fn all_sent(fd: BorrowedFd<'_>) -> bool {
    own::unsent(fd).map_or(true, |bytes| bytes == 0)
}

/// What came of a receive.
pub(super) enum Received {
    /// So many bytes of the buffer, from there.
    Datagram(usize, SocketAddr),
    /// The network said that something sent earlier did not arrive.
    Unreachable(Unreachable),
    /// Nothing is there.
    Nothing,
}

/// Receives without waiting.
pub(super) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    match net::recvfrom(fd, buffer, RecvFlags::DONTWAIT) {
        Ok((_, length, from)) => match from.and_then(|any| SocketAddr::try_from(any).ok()) {
            Some(from) => Ok(Received::Datagram(length, from)),
            None => Ok(Received::Nothing),
        },
        Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Nothing),
        Err(errno) => unreachable(errno).map(Received::Unreachable).ok_or_else(|| errno.into()),
    }
}

/// Sends without waiting; `to` nowhere on a connected socket. A full send buffer drops the datagram, as a full queue
/// anywhere on its way would.
pub(super) fn send(fd: BorrowedFd<'_>, to: Option<SocketAddr>, bytes: &[u8]) -> Result<(), Unreachable> {
    let once = || match to {
        Some(to) => net::sendto(fd, bytes, SendFlags::DONTWAIT, &to),
        None => net::send(fd, bytes, SendFlags::DONTWAIT),
    };
    match once() {
        Ok(_) => Ok(()),
        Err(errno) => {
            let Some(what) = unreachable(errno) else {
                tracing::debug!(%errno, ?to, "a datagram was not sent");
                return Ok(());
            };
            // The kernel tells of an earlier datagram's fate at the next send, and does not send then.
            let _ = once();
            Err(what)
        }
    }
}

/// Forgets the errors that wait, and goes on reporting them.
pub(super) fn clear_errors(fd: BorrowedFd<'_>, v6: bool) {
    let _ = own::report_errors(fd, v6, false);
    let _ = own::report_errors(fd, v6, true);
}

pub(super) fn unreachable(errno: Errno) -> Option<Unreachable> {
    match errno {
        Errno::CONNREFUSED => Some(Unreachable::Port),
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN | Errno::ACCESS | Errno::PERM => {
            Some(Unreachable::Host)
        }
        _ => None,
    }
}

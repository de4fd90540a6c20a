//! Connects to a target that is a socket.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::forward::Verdict;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use service::resolve::Named;

use super::room::Counted;
use super::running::Target;
use super::socket::Socket;
use crate::machine::cause::Refusal;
use crate::said::end::{End, Host, Place};

/// Until a Unix socket's backlog, which is full, is tried again.
const BUSY: Duration = Duration::from_millis(5);
/// Until a descriptor is asked for again where there was none.
const FULL: Duration = Duration::from_millis(20);
/// What each address of a host that has several is given at least.
const LEAST: Duration = Duration::from_millis(250);

/// Connects to `target`, one port of TCP or a Unix socket, within `limit`.
pub(crate) async fn dial(target: &Target, limit: Duration, keepalive: Option<Duration>) -> Result<Socket, Refusal> {
    let (target, host) = (&target.end, target.host.as_ref());
    let silent = || Refusal::here(Verdict::TimedOut, format!("{target} did not answer within {limit:?}"));
    let dialled = async {
        match target {
            End::Unix(path) => unix(path, now() + limit).await.map_err(|error| told(target, &error)),
            End::Tcp(place) => tcp(target, place, host, limit, keepalive).await,
            End::Udp(_) | End::Flow(_) => Err(Refusal::here(Verdict::Failed, format!("{target} is no stream socket"))),
        }
    };
    within(limit, dialled).await.unwrap_or_else(|| Err(silent()))
}

/// One address after the other: the first that takes the connection.
async fn tcp(
    target: &End,
    place: &Place,
    host: Option<&Arc<Named>>,
    limit: Duration,
    keepalive: Option<Duration>,
) -> Result<Socket, Refusal> {
    let deadline = now() + limit;
    let addresses = addresses(place, host).await?;
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        let fd = socket(family(*address), deadline).await.map_err(|error| told(target, &error))?;
        let share = deadline.saturating_duration_since(now()) / u32::try_from(addresses.len() - index).unwrap_or(1);
        match within(share.max(LEAST), connect(fd, *address, keepalive)).await {
            Some(Ok(socket)) => return Ok(socket),
            Some(Err(error)) => last = Some(told(target, &error)),
            None => last = Some(Refusal::here(Verdict::TimedOut, format!("{address} does not answer"))),
        }
    }
    Err(last.unwrap_or_else(|| Refusal::here(Verdict::UnknownHost, format!("{target} has no address"))))
}

/// The addresses of a target, in the resolver's order.
async fn addresses(place: &Place, host: Option<&Arc<Named>>) -> Result<Vec<SocketAddr>, Refusal> {
    let port = place.ports.first();
    match &place.host {
        Host::This => Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)]),
        Host::Address(IpAddr::V6(address), zone) => Ok(vec![SocketAddrV6::new(*address, port, 0, *zone).into()]),
        Host::Address(address, _) => Ok(vec![SocketAddr::new(*address, port)]),
        Host::Zoned(there) => match zoned(there, port) {
            Ok(address) => Ok(vec![address]),
            Err(error) => Err(Refusal::here(Verdict::Unreachable, error.to_string())),
        },
        Host::Named(name) => match host {
            Some(host) => match host.addresses().await {
                Ok(found) => Ok(found.iter().map(|address| SocketAddr::new(*address, port)).collect()),
                Err(error) => Err(Refusal::here(Verdict::UnknownHost, error.to_string())),
            },
            None => Err(Refusal::here(Verdict::UnknownHost, format!("{name} is not looked up"))),
        },
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// A socket. Where there are no descriptors it waits for one, ahead of clients that are not accepted yet.
async fn socket(family: AddressFamily, deadline: Instant) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    loop {
        match rustix::net::socket_with(family, SocketType::STREAM, flags, None) {
            Err(Errno::MFILE | Errno::NFILE) if now() + FULL < deadline => {
                let _hungry = Counted::hungry();
                pause(FULL).await;
            }
            made => return Ok(made?),
        }
    }
}

async fn connect(fd: OwnedFd, address: SocketAddr, keepalive: Option<Duration>) -> io::Result<Socket> {
    // What one side wrote goes on at once.
    sockopt::set_tcp_nodelay(&fd, true)?;
    if let Some(after) = keepalive {
        keep_alive(&fd, after)?;
    }
    let connecting = match rustix::net::connect(&fd, &address) {
        // Within a host the answer is there by now: asked again, it costs neither a turn of the runtime nor a timer.
        Err(Errno::INPROGRESS) => rustix::net::connect(&fd, &address),
        done => done,
    };
    let mut socket = Socket::new(fd, true)?;
    match connecting {
        Ok(()) | Err(Errno::ISCONN) => Ok(socket),
        Err(Errno::INPROGRESS | Errno::ALREADY) => {
            poll_fn(|cx| socket.poll_connected(cx)).await?;
            Ok(socket)
        }
        Err(other) => Err(other.into()),
    }
}

async fn unix(path: &Path, deadline: Instant) -> io::Result<Socket> {
    let address = unix_address(path)?;
    let fd = socket(AddressFamily::UNIX, deadline).await?;
    loop {
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return Socket::new(fd, false),
            // The backlog is full; nothing tells when it is not.
            Err(Errno::AGAIN) => pause(BUSY).await,
            Err(other) => return Err(other.into()),
        }
    }
}

/// An address of the zone, which is an interface that may come and go, and get another number.
pub(crate) fn zoned((address, zone): &(Ipv6Addr, String), port: u16) -> io::Result<SocketAddr> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None)?;
    let number = rustix::net::netdevice::name_to_index(&socket, zone)
        .map_err(|_| io::Error::other(format!("this host has no interface {zone}; see `ip link`")))?;
    Ok(SocketAddrV6::new(*address, port, 0, number).into())
}

/// A path, or with `@` a name of the abstract namespace, as the kernel takes it.
pub(crate) fn unix_address(path: &Path) -> io::Result<SocketAddrUnix> {
    let address = match path.to_str().and_then(|text| text.strip_prefix('@')) {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        None => SocketAddrUnix::new(path),
    };
    Ok(address?)
}

/// A peer that is silent for so long is asked, nine times at most, whether it is there.
pub(crate) fn keep_alive(fd: &impl std::os::fd::AsFd, after: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, after.max(Duration::from_secs(1)))?;
    sockopt::set_tcp_keepintvl(fd, (after / 4).clamp(Duration::from_secs(1), Duration::from_secs(75)))?;
    Ok(())
}

fn told(target: &End, error: &io::Error) -> Refusal {
    let refusal = Refusal::of_dial(error);
    Refusal { words: format!("{target}: {}", refusal.words), ..refusal }
}

#[expect(clippy::disallowed_methods, reason = "io reads the clock")]
fn now() -> Instant {
    Instant::now()
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

#[expect(clippy::disallowed_methods, reason = "io owns the timers")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

//! The sockets of all places.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::Context as _;
use datagrams::{Batch, Outbox};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::machine::{Place, Role, Via};
use crate::said::file::Options;

/// Datagrams of one socket between two looks at the others.
const TURN: usize = datagrams::MANY;

/// One socket.
struct Port {
    fd: OwnedFd,
    place: usize,
    role: Role,
    v6: bool,
}

/// All of them.
pub(super) struct Sockets {
    ports: Vec<Port>,
    places: Vec<Place>,
    epoll: OwnedFd,
    batch: Batch,
    outbox: Outbox,
}

impl Sockets {
    /// Opens them. The relay's only where there is to be one.
    pub(super) fn open(options: &Options, relay: bool) -> anyhow::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let (mut ports, mut places) = (Vec::new(), Vec::new());
        for listen in &options.listen {
            let place = places.len();
            let mut open = |at: SocketAddr, role: Role| -> Result<SocketAddr, Errno> {
                let fd = datagrams::bound(at)?;
                let at = rustix::net::getsockname(&fd)?.try_into()?;
                epoll::add(&epoll, &fd, EventData::new_u64(ports.len() as u64), EventFlags::IN)?;
                ports.push(Port { fd, place, role, v6: listen.is_ipv6() });
                Ok(at)
            };
            let main = open(*listen, Role::Main).with_context(|| {
                format!("{listen} cannot be listened at; choose another --listen, or stop what is there")
            })?;
            let near = |port: Option<u16>, after: u16| {
                let after = if listen.port() == 0 { 0 } else { listen.port().saturating_add(after) };
                SocketAddr::new(listen.ip(), port.unwrap_or(after))
            };
            let other = near(options.nat_port, 1);
            let other = open(other, Role::Other).map_err(|errno| {
                tracing::warn!("{other} cannot be listened at ({errno}): members do not find out what NATs they have");
            });
            let relay_at = near(options.relay_port, 2);
            let relay = relay.then(|| open(relay_at, Role::Relay)).transpose().with_context(|| {
                format!(
                    "{relay_at} cannot be listened at for the relay; choose another port of it, or stop what is there"
                )
            })?;
            places.push(Place { main, other: other.ok(), relay });
        }
        Ok(Self { ports, places, epoll, batch: Batch::new(), outbox: Outbox::default() })
    }

    /// Where they are.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Readable while any of them is.
    pub(super) fn ready(&self) -> std::io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    /// Takes a turn at each socket that has something: where each datagram came to, from whom, and its bytes. Whether there was
    /// any. A datagram that is to go as it is goes where `each` says.
    pub(super) fn receive(
        &mut self,
        mut each: impl FnMut(Via, SocketAddr, &[u8]) -> Option<(SocketAddr, Via)>,
        mut failed: impl FnMut(Errno),
    ) -> std::io::Result<bool> {
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 32];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let some = match epoll::wait(&self.epoll, &mut events, Some(&now)) {
            Err(Errno::INTR) => return Ok(true),
            some => some?,
        };
        for event in &events[..some] {
            let Some(port) = usize::try_from(event.data.u64()).ok().and_then(|number| self.ports.get(number)) else {
                continue;
            };
            self.batch.clear();
            // An error is an earlier datagram's that came to nothing: there is nothing to read.
            let count = self.batch.receive_some(port.fd.as_fd(), TURN).unwrap_or(0);
            let (place, role) = (port.place, port.role);
            for number in 0..count {
                let (received, bytes) = self.batch.get(number);
                let Some(from) = received.from else { continue };
                let via = Via { place, role, local: received.to.map(|ip| ip.to_canonical()) };
                if let Some((to, via)) = each(via, from, bytes) {
                    put(&self.ports, &mut self.outbox, via, to, bytes, &mut failed);
                }
            }
        }
        Ok(some > 0)
    }

    /// Sends with the next [`flush`](Self::flush), or a little earlier.
    pub(super) fn send(&mut self, via: Via, to: SocketAddr, bytes: &[u8], mut failed: impl FnMut(Errno)) {
        put(&self.ports, &mut self.outbox, via, to, bytes, &mut failed);
    }

    /// Sends all.
    pub(super) fn flush(&mut self, failed: impl FnMut(Errno)) {
        flush(&self.ports, &mut self.outbox, failed);
    }
}

fn put(ports: &[Port], outbox: &mut Outbox, via: Via, to: SocketAddr, bytes: &[u8], failed: &mut impl FnMut(Errno)) {
    let Some(number) = ports.iter().position(|port| (port.place, port.role) == (via.place, via.role)) else {
        return failed(Errno::BADF);
    };
    let v6 = ports[number].v6;
    let to = SocketAddr::new(as_socket(to.ip(), v6), to.port());
    if outbox.put(number, to, via.local.map(|ip| as_socket(ip, v6)), bytes) {
        flush(ports, outbox, failed);
    }
}

fn flush(ports: &[Port], outbox: &mut Outbox, failed: impl FnMut(Errno)) {
    outbox.flush(|number| ports.get(number).map(|port| -> BorrowedFd<'_> { port.fd.as_fd() }), failed);
}

/// An address as a socket of IPv6 has it, where it is one.
fn as_socket(ip: IpAddr, v6: bool) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v6 => v4.to_ipv6_mapped().into(),
        ip => ip,
    }
}

//! The side of the players: the ports that they send to.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datagrams::{Batch, MANY, Outbox};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::tally::Tally;
use crate::machine::door::Player;
use crate::machine::front::Front;
use crate::said::probe;
use crate::said::rule::Dropped;

/// Marks a port's number among what an epoll says.
pub(super) const PORT: u64 = 1 << 63;
/// Receives of a port before others have their turn.
const AT_ONCE: usize = 4;

/// Datagrams that come so soon after each other come in bursts.
const SOON: Duration = Duration::from_micros(20);

/// Ports, and what goes out through them.
#[derive(Debug)]
pub(super) struct Edge {
    epoll: Arc<OwnedFd>,
    ports: Vec<Option<Port>>,
    /// Where a datagram to a player goes out.
    by_address: HashMap<SocketAddr, usize>,
    front: Front,
    outbox: Outbox,
    tally: Arc<Tally>,
    /// To the server side and back, µs; 0: not known.
    leg_us: u32,
}

#[derive(Debug)]
struct Port {
    socket: OwnedFd,
    at: SocketAddr,
    taken: Option<Instant>,
}

impl Edge {
    /// No port yet. Those that come are watched by `epoll`, as [`PORT`] and their number.
    pub(super) fn new(epoll: Arc<OwnedFd>, tally: Arc<Tally>) -> Self {
        Self {
            epoll,
            ports: Vec::new(),
            by_address: HashMap::new(),
            front: Front::default(),
            outbox: Outbox::default(),
            tally,
            leg_us: 0,
        }
    }

    /// From now on these are the ports, and who may send. Those that stay are not touched. What could not be opened.
    pub(super) fn set(&mut self, front: Front) -> Vec<(SocketAddr, io::Error)> {
        for place in &mut self.ports {
            if place.as_ref().is_some_and(|port| !front.ports.contains(&port.at)) {
                *place = None;
            }
        }
        self.by_address = HashMap::new();
        for (number, port) in self.ports.iter().enumerate() {
            if let Some(port) = port {
                self.by_address.insert(port.at, number);
            }
        }
        self.front = front;
        self.open_missing()
    }

    /// Opens the ports that are not open; what could not be opened.
    pub(super) fn open_missing(&mut self) -> Vec<(SocketAddr, io::Error)> {
        let missing = self.front.ports.iter().filter(|at| !self.by_address.contains_key(at));
        let missing: Vec<SocketAddr> = missing.copied().collect();
        missing.into_iter().filter_map(|at| self.open(at).err().map(|error| (at, error))).collect()
    }

    fn open(&mut self, at: SocketAddr) -> io::Result<()> {
        let socket = datagrams::bound(at)?;
        let number = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        epoll::add(&*self.epoll, &socket, EventData::new_u64(PORT | number as u64), EventFlags::IN)?;
        if number == self.ports.len() {
            self.ports.push(None);
        }
        self.ports[number] = Some(Port { socket, at, taken: None });
        self.by_address.insert(at, number);
        Ok(())
    }

    /// The ports that are open.
    pub(super) fn open_ports(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().flatten().map(|port| port.at)
    }

    /// What players sent to a port goes to `up`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        number: u64,
        batch: &mut Batch,
        mut up: impl FnMut(Player, &[u8], &Front),
    ) {
        let Some(Some(port)) = self.ports.get_mut((number & !PORT) as usize) else { return };
        let most = at_once(now, &mut port.taken);
        let mut pongs = Vec::new();
        for _ in 0..AT_ONCE {
            batch.clear();
            match batch.receive_some(port.socket.as_fd(), most) {
                Ok(0) => break,
                // Nothing, or a player's host said that nobody listens there any more: silence ends its route.
                Err(_) => break,
                Ok(_) => {}
            }
            for place in 0..batch.len() {
                let (received, bytes) = batch.get(place);
                let Some(from) = received.from else { continue };
                let ip = received.to.unwrap_or(port.at.ip()).to_canonical();
                // What is no IPv4 address in disguise may be of one link only, which is part of it.
                let client = match from.ip().to_canonical() {
                    IpAddr::V4(v4) => SocketAddr::new(v4.into(), from.port()),
                    IpAddr::V6(_) => from,
                };
                let player = Player { orig: SocketAddr::new(ip, port.at.port()), client };
                match probe::answer(bytes, self.leg_us).filter(|_| self.front.lets(client)) {
                    Some(pong) => pongs.push((player, pong)),
                    None => up(player, bytes, &self.front),
                }
            }
            if !batch.is_full() {
                break;
            }
        }
        // Nobody is made to send more than was sent to it.
        pongs.iter().for_each(|(player, pong)| self.put(player, pong));
        if !pongs.is_empty() {
            self.flush();
        }
    }

    /// The round trip to the server side, which probes are told.
    pub(super) fn set_leg(&mut self, leg: Option<Duration>) {
        self.leg_us = leg.map_or(0, |leg| u32::try_from(leg.as_micros()).unwrap_or(u32::MAX).max(1));
    }

    /// A datagram for a player, with the next [`flush`](Self::flush).
    pub(super) fn put(&mut self, player: &Player, data: &[u8]) {
        let wildcards = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];
        let mut places = std::iter::once(player.orig.ip()).chain(wildcards);
        let found = places.find_map(|ip| self.by_address.get(&SocketAddr::new(ip, player.orig.port())).copied());
        let Some(Some(port)) = found.map(|number| self.ports[number].as_ref()) else {
            self.tally.dropped(Dropped::NoPlayer);
            return;
        };
        let from = port.at.ip().is_unspecified().then_some(player.orig.ip());
        let (to, from) = match port.at.is_ipv6() {
            true => (mapped(player.client), from.map(|ip| mapped(SocketAddr::new(ip, 0)).ip())),
            false => (player.client, from),
        };
        if self.outbox.put(found.unwrap_or(0), to, from, data) {
            self.flush();
        }
    }

    /// Sends what was put.
    pub(super) fn flush(&mut self) {
        let (ports, tally) = (&self.ports, &self.tally);
        let port = |number: usize| ports.get(number)?.as_ref().map(|port| port.socket.as_fd());
        self.outbox.flush(port, |errno| tally.dropped(super::route::reason(errno)));
    }
}

/// How many to receive: many where one came a moment ago. Of one that comes alone the kernel need not be asked for a second.
pub(super) fn at_once(now: Instant, last: &mut Option<Instant>) -> usize {
    let before = last.replace(now);
    if before.is_some_and(|before| now.saturating_duration_since(before) < SOON) { MANY } else { 1 }
}

/// As an IPv6 socket names it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        v6 => v6,
    }
}

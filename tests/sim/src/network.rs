//! Hosts, the boxes between them, and the datagrams under way.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::link::{Line, Link, Passage};
use crate::nat::{Behaviour, Nat};

/// A host of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(usize);

/// Addresses that reach each other without a box between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(usize);

impl Realm {
    /// The one behind no box.
    pub const INTERNET: Self = Self(0);
}

/// A datagram that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where.
    pub host: Host,
    /// Its sender as seen from here.
    pub from: SocketAddr,
    /// Its receiver as seen from here.
    pub to: SocketAddr,
    /// The payload.
    pub bytes: Vec<u8>,
    /// Number of the datagram, counted as sent; a copy has the number of its original.
    pub number: u64,
    origin: Origin,
}

/// What happens on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A datagram arrived. If nobody takes it, say so by [`Network::refuse`].
    Datagram(Datagram),
    /// ICMP: a datagram sent from here met a closed port.
    Unreachable {
        /// Where the error arrived.
        host: Host,
        /// From where the datagram was sent.
        local: SocketAddr,
        /// Where to, as the sender wrote it.
        peer: SocketAddr,
    },
}

/// What a script does to one datagram, in place of its sender's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on at once.
    Deliver,
    /// It is lost.
    Lose,
    /// It goes on at once, twice.
    Double,
    /// It goes on after this, behind what is sent meanwhile.
    Delay(Duration),
}

/// What became of all datagrams so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Given to the network.
    pub sent: u64,
    /// Given to hosts, copies included.
    pub delivered: u64,
    /// Lost on a link, by chance or in a full queue.
    pub lost: u64,
    /// Copies made.
    pub doubled: u64,
    /// Stopped by a NAT or firewall.
    pub filtered: u64,
    /// Sent to an address that nobody has.
    pub nowhere: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    /// A stranger's datagram has none, and errors about it go nowhere.
    host: Option<Host>,
    from: SocketAddr,
    to: SocketAddr,
}

#[derive(Debug)]
struct Station {
    realm: Realm,
    address: IpAddr,
    up: Line,
    down: Line,
}

#[derive(Debug)]
struct Gateway {
    outside: Realm,
    inside: Realm,
    nat: Nat,
}

#[derive(Clone, Debug)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
    number: u64,
    origin: Origin,
}

#[derive(Debug)]
enum Stage {
    /// At its sender's end of the network.
    Sent(Realm, Packet),
    /// At its receiver.
    Here(Host, Packet),
    /// ICMP about what was sent so.
    Error(Host, SocketAddr, SocketAddr),
}

type Script = Box<dyn FnMut(&mut ChaCha12Rng) -> Fate>;

/// A network. All its chances come from one seed.
pub struct Network {
    stations: Vec<Station>,
    gateways: Vec<Gateway>,
    realms: usize,
    under_way: BTreeMap<(Instant, u64), Stage>,
    entered: u64,
    tally: Tally,
    script: Option<Script>,
    rng: ChaCha12Rng,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("under_way", &self.under_way.len()).field("tally", &self.tally).finish()
    }
}

impl Network {
    /// An empty network.
    pub fn new(seed: u64) -> Self {
        Self {
            stations: Vec::new(),
            gateways: Vec::new(),
            realms: 1,
            under_way: BTreeMap::new(),
            entered: 0,
            tally: Tally::default(),
            script: None,
            rng: ChaCha12Rng::seed_from_u64(seed),
        }
    }

    /// A host with its access: `up` from it to the network, `down` to it. Its datagrams pass both links of their two
    /// ends, so a round trip between two hosts passes four.
    pub fn host(&mut self, realm: Realm, address: IpAddr, up: Link, down: Link) -> Host {
        self.stations.push(Station { realm, address, up: Line::new(up), down: Line::new(down) });
        Host(self.stations.len() - 1)
    }

    /// A box at the outer realm; returns the realm behind it. `outer` means nothing to a firewall: the hosts behind
    /// it have addresses of the realm before it.
    pub fn nat(&mut self, outside: Realm, outer: IpAddr, behaviour: Behaviour) -> Realm {
        let inside = Realm(self.realms);
        self.realms += 1;
        self.gateways.push(Gateway { outside, inside, nat: Nat::new(behaviour, outer) });
        inside
    }

    /// The box before a realm.
    pub fn gateway(&mut self, inside: Realm) -> Option<&mut Nat> {
        self.gateways.iter_mut().find(|gateway| gateway.inside == inside).map(|gateway| &mut gateway.nat)
    }

    /// The host's links are these from now on; what is under way stays so.
    pub fn relink(&mut self, host: Host, up: Link, down: Link) {
        let station = &mut self.stations[host.0];
        (station.up, station.down) = (Line::new(up), Line::new(down));
    }

    /// A script decides over every datagram sent, in place of its sender's link.
    pub fn script(&mut self, script: impl FnMut(&mut ChaCha12Rng) -> Fate + 'static) {
        self.script = Some(Box::new(script));
    }

    /// The links decide again.
    pub fn unscript(&mut self) {
        self.script = None;
    }

    /// What became of all datagrams so far. ICMP is not counted.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// A host sends.
    pub fn send(&mut self, now: Instant, host: Host, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.tally.sent += 1;
        let number = self.tally.sent;
        let origin = Origin { host: Some(host), from, to };
        let passages = self.leave(now, host, bytes.len());
        let realm = self.stations[host.0].realm;
        self.copy(passages, Packet { from, to, bytes, number, origin }, |packet| Stage::Sent(realm, packet));
    }

    /// Somebody else sends from any address of a realm, true or not.
    pub fn inject(&mut self, now: Instant, realm: Realm, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.tally.sent += 1;
        let origin = Origin { host: None, from, to };
        self.enter(now, Stage::Sent(realm, Packet { from, to, bytes, number: self.tally.sent, origin }));
    }

    /// Nobody took the datagram: its sender is told, if the network lets it through. Simpler than life: boxes on the
    /// way let every ICMP error about what they let out come back (RFC 5508 asks for that). No script decides over it.
    pub fn refuse(&mut self, now: Instant, datagram: &Datagram) {
        let Origin { host: Some(host), from, to } = datagram.origin else { return };
        let Self { stations, rng, .. } = self;
        let Some(out) = stations[datagram.host.0].up.pass(now, 0, rng).first().copied() else { return };
        let Some(passage) = stations[host.0].down.pass(out.at, 0, rng).first().copied() else { return };
        self.enter(passage.at, Stage::Error(host, from, to));
    }

    /// When the next thing happens; nothing may come of it.
    pub fn next_at(&self) -> Option<Instant> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    /// What happened up to now, one after the other.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        while let Some(entry) = self.under_way.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), stage) = entry.remove_entry();
            match stage {
                Stage::Sent(realm, packet) => self.route(at, realm, packet),
                Stage::Error(host, local, peer) => return Some(Event::Unreachable { host, local, peer }),
                Stage::Here(host, Packet { from, to, bytes, number, origin }) => {
                    self.tally.delivered += 1;
                    return Some(Event::Datagram(Datagram { host, from, to, bytes, number, origin }));
                }
            }
        }
        None
    }

    fn enter(&mut self, at: Instant, stage: Stage) {
        self.entered += 1;
        self.under_way.insert((at, self.entered), stage);
    }

    /// Through the sender's link, or the script's hands.
    fn leave(&mut self, now: Instant, host: Host, length: usize) -> Vec<Passage> {
        let Self { stations, script, rng, .. } = self;
        let Some(script) = script else { return stations[host.0].up.pass(now, length, rng) };
        let passage = |at| Passage { at, flipped: None };
        match script(rng) {
            Fate::Deliver => vec![passage(now)],
            Fate::Lose => Vec::new(),
            Fate::Double => vec![passage(now); 2],
            Fate::Delay(by) => vec![passage(now + by)],
        }
    }

    fn copy(&mut self, passages: Vec<Passage>, packet: Packet, stage: impl Fn(Packet) -> Stage) {
        match passages.len() {
            0 => self.tally.lost += 1,
            copies => self.tally.doubled += copies as u64 - 1,
        }
        for Passage { at, flipped } in passages {
            let mut packet = packet.clone();
            if let Some(bit) = flipped {
                packet.bytes[bit / 8] ^= 1 << (bit % 8);
            }
            self.enter(at, stage(packet));
        }
    }

    /// From box to box until a host has it, or nobody.
    fn route(&mut self, at: Instant, mut realm: Realm, mut packet: Packet) {
        // Each turn leaves or enters one box; nobody builds them deeper.
        for _ in 0..16 {
            if let Some(host) = self.find(realm, packet.to.ip()) {
                let Self { stations, rng, .. } = self;
                let passages = stations[host.0].down.pass(at, packet.bytes.len(), rng);
                return self.copy(passages, packet, |packet| Stage::Here(host, packet));
            }
            let inward = (0..self.gateways.len())
                .find(|n| self.gateways[*n].outside == realm && self.stands_for(*n, packet.to.ip()));
            let outward = self.gateways.iter().position(|gateway| gateway.inside == realm);
            let passed = match (inward, outward) {
                (Some(n), _) => self.inward(at, n, &mut packet),
                (None, Some(n)) if self.hairpins(n, packet.to.ip()) => self.turn(at, n, &mut packet),
                (None, Some(n)) => self.outward(at, n, &mut packet),
                (None, None) => {
                    self.tally.nowhere += 1;
                    return;
                }
            };
            let Some(next) = passed else {
                self.tally.filtered += 1;
                return;
            };
            realm = next;
        }
        self.tally.nowhere += 1;
    }

    fn find(&self, realm: Realm, address: IpAddr) -> Option<Host> {
        self.stations.iter().position(|host| host.realm == realm && host.address == address).map(Host)
    }

    /// Whether datagrams to the address go to this box.
    fn stands_for(&self, gateway: usize, address: IpAddr) -> bool {
        let Gateway { inside, nat, .. } = &self.gateways[gateway];
        if nat.behaviour().translates {
            return nat.outer() == address;
        }
        let behind = (0..self.gateways.len()).filter(|n| self.gateways[*n].outside == *inside);
        self.find(*inside, address).is_some() || behind.into_iter().any(|n| self.stands_for(n, address))
    }

    fn hairpins(&self, gateway: usize, address: IpAddr) -> bool {
        let nat = &self.gateways[gateway].nat;
        nat.behaviour().translates && nat.outer() == address
    }

    fn inward(&mut self, at: Instant, gateway: usize, packet: &mut Packet) -> Option<Realm> {
        let Gateway { inside, nat, .. } = &mut self.gateways[gateway];
        packet.to = nat.inbound(at, packet.from, packet.to)?;
        Some(*inside)
    }

    fn outward(&mut self, at: Instant, gateway: usize, packet: &mut Packet) -> Option<Realm> {
        let Self { gateways, rng, .. } = self;
        let Gateway { outside, nat, .. } = &mut gateways[gateway];
        packet.from = nat.outbound(at, packet.from, packet.to, rng)?;
        Some(*outside)
    }

    /// Out and in again at the same box, with the outer source (RFC 4787 §6: "External source IP address and port").
    fn turn(&mut self, at: Instant, gateway: usize, packet: &mut Packet) -> Option<Realm> {
        let Self { gateways, rng, .. } = self;
        let Gateway { inside, nat, .. } = &mut gateways[gateway];
        if !nat.behaviour().hairpin {
            return None;
        }
        packet.from = nat.outbound(at, packet.from, packet.to, rng)?;
        packet.to = nat.inbound(at, packet.from, packet.to)?;
        Some(*inside)
    }
}

//! The stage: hosts with a listen port and flows' sockets, a server, and a network between them.

use std::collections::BTreeMap;

use proto::rendezvous::{Mapped, SessionId, SessionKey, is_ours};
use proto::{BootId, WireId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sim::{Event, Host, Network};

use super::super::Session;
use super::super::attempt::{Attempt, Setup, Trouble};
use super::super::member::{self, Member};
use super::super::predict::SOCKETS;
use super::super::punch::Way;
use super::super::search::{self, Role};
use super::server::Server;
use super::*;
use std::time::Instant;

const LISTEN: u16 = 3359;
/// The asker's socket, and the other's.
const CP: u16 = 40_001;
const SP: u16 = 50_001;
/// Sockets of a search, from this one on.
const SEARCHING: u16 = 42_000;
/// Sockets that find out in which order a NAT gives ports, from this one on.
const NEIGHBOUR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 200));
const MEASURING: u16 = 41_000;
/// What the asker says once it has a path.
const REQUEST: &[u8] = b"request";
/// An allocation ends by then.
const PATIENCE: Duration = Duration::from_secs(5);

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]
pub(super) fn origin() -> Instant {
    Instant::now()
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn session(host: u64) -> Session {
    let key = SessionKey::new("darkreign", b"secret");
    Session { id: SessionId::of("darkreign"), key, host: HostId(host), punch: Level::default() }
}

/// A member's host.
pub(super) struct Member1 {
    pub(super) at: Host,
    pub(super) address: IpAddr,
    pub(super) member: Member,
    pub(super) attempts: BTreeMap<u16, Attempt>,
}

/// A path as both sides have it.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) at: SocketAddr,
    pub(super) way: Way,
    /// Since the asker knows where the other is.
    pub(super) took: Duration,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Outcome {
    Trouble(Trouble),
    NeverEnded,
}

pub(super) struct World {
    pub(super) net: Network,
    pub(super) now: Instant,
    pub(super) rng: ChaCha12Rng,
    pub(super) hosts: Vec<Member1>,
    pub(super) server: Server,
    pub(super) server_at: Host,
    pub(super) sent_to: BTreeMap<SocketAddr, u32>,
    pub(super) noise: Vec<Vec<u8>>,
    /// Of the hosts.
    realms: Vec<Realm>,
    mirror: Option<Host>,
    pub(super) mirrored: u32,
    requested: bool,
    /// When the first search began.
    pub(super) searched: Option<Instant>,
    /// What hosts that are added do beyond plain hellos.
    pub(super) punch: Level,
    neighbour: Option<Neighbour>,
    /// What others send to this host's sockets for flows is lost, but for the server's.
    pub(super) deaf: Option<usize>,
    /// What hosts say that their routers map, of the flow's port.
    mapped: BTreeMap<usize, SocketAddr>,
}

/// Another host behind the same box: every so often it sends to where it never sent before.
struct Neighbour {
    at: Host,
    every: Duration,
    next: Instant,
    port: u16,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut net = Network::new(seed);
        let server = Server::new("198.51.100.1:3360".parse().unwrap());
        let server_at = net.host(Realm::INTERNET, server.at.ip(), Link::default(), Link::default());
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_be_bytes());
        let rng = ChaCha12Rng::from_seed(key);
        let (sent_to, noise) = (BTreeMap::new(), Vec::new());
        Self {
            net,
            now: origin(),
            rng,
            hosts: Vec::new(),
            server,
            server_at,
            sent_to,
            noise,
            realms: Vec::new(),
            mirror: None,
            mirrored: 0,
            requested: false,
            searched: None,
            punch: Level::default(),
            neighbour: None,
            deaf: None,
            mapped: BTreeMap::new(),
        }
    }

    /// An asker behind one kind of box, and one who is asked behind another.
    pub(super) fn pair(seed: u64, asker: Kind, asked: Kind, link: Link) -> Self {
        Self::pair_with(seed, [asker, asked], link, [Level::default(); 2])
    }

    /// The same, and what each does beyond plain hellos.
    pub(super) fn pair_with(seed: u64, kinds: [Kind; 2], link: Link, punch: [Level; 2]) -> Self {
        let mut world = Self::new(seed);
        for ((kind, outer), punch) in kinds.into_iter().zip(["203.0.113.1", "203.0.113.2"]).zip(punch) {
            world.punch = punch;
            let place = kind.build(&mut world.net, outer.parse().unwrap());
            world.host(place.realm, &place.address.to_string(), link.clone());
        }
        world
    }

    pub(super) fn host(&mut self, realm: Realm, address: &str, link: Link) {
        let address: IpAddr = address.parse().unwrap();
        let number = self.hosts.len() as u64 + 1;
        let listen = SocketAddr::new(address, LISTEN);
        let session = Session { punch: self.punch, ..session(number) };
        let member = Member::new(session, BootId(number), listen, &mut self.rng);
        let at = self.net.host(realm, address, link.clone(), link);
        self.realms.push(realm);
        self.hosts.push(Member1 { at, address, member, attempts: BTreeMap::new() });
    }

    /// A host has another address in its network from now on.
    pub(super) fn moves(&mut self, n: usize, address: &str) {
        let (address, link): (IpAddr, _) = (address.parse().unwrap(), Link { delay: ms(10), ..Link::default() });
        let at = self.net.host(self.realms[n], address, link.clone(), link);
        (self.hosts[n].at, self.hosts[n].address) = (at, address);
        let now = self.now;
        self.hosts[n].member.moved(now, SocketAddr::new(address, LISTEN));
    }

    /// Somebody else is behind the same box as a host, and begins something new every so often.
    pub(super) fn neighbour(&mut self, n: usize, every: Duration) {
        let at = self.net.host(self.realms[n], NEIGHBOUR, Link::default(), Link::default());
        self.neighbour = Some(Neighbour { at, every, next: self.now, port: 10_000 });
    }

    fn neighbour_talks(&mut self) {
        let Some(Neighbour { at, every, next, port }) = &mut self.neighbour else { return };
        while *next <= self.now {
            *next += *every;
            *port += 1;
            let (from, to) = (SocketAddr::new(NEIGHBOUR, 5_000), SocketAddr::new(self.server.at.ip(), *port));
            self.net.send(self.now, *at, from, to, b"something else".to_vec());
        }
    }

    /// A stranger beside the asker, who sends back what comes.
    pub(super) fn mirror_at(&mut self, address: &str) {
        let inside =
            self.net.nat(Realm::INTERNET, "203.0.113.77".parse().unwrap(), Kind::FullCone.behaviour().unwrap());
        // The asked host anew, with a private address that the asker's network has, too.
        self.hosts.truncate(1);
        self.host(inside, address, Link { delay: ms(10), ..Link::default() });
        let beside = self.realms[0];
        self.mirror = Some(self.net.host(beside, address.parse().unwrap(), Link::default(), Link::default()));
    }

    /// What the owner of an attempt does for a search.
    fn search(&mut self, n: usize) {
        let (now, at, address) = (self.now, self.hosts[n].at, self.hosts[n].address);
        let socket_at = |socket: usize| SocketAddr::new(address, SEARCHING + u16::try_from(socket).unwrap());
        for port in self.hosts[n].attempts.keys().copied().collect::<Vec<_>>() {
            let Some(attempt) = self.hosts[n].attempts.get_mut(&port) else { continue };
            if let Some(role) = attempt.wants_search().map(|(role, _)| role) {
                attempt.begin_search(now, true, &mut self.rng);
                if let (Role::Opens, Some(search)) = (role, attempt.search()) {
                    (0..search::SOCKETS).for_each(|socket| search.opened(socket, socket_at(socket)));
                }
                self.searched.get_or_insert(now);
            }
            while let Some((socket, to, bytes)) = attempt.search().and_then(|search| search.poll_output()) {
                *self.sent_to.entry(to).or_default() += 1;
                let from = socket.map_or(SocketAddr::new(address, port), socket_at);
                self.net.send(now, at, from, to, bytes);
            }
            if let Some((_, local)) = attempt.take_found() {
                let attempt = self.hosts[n].attempts.remove(&port).unwrap();
                self.hosts[n].attempts.insert(local.port(), attempt);
            }
        }
    }

    /// A host's router maps the port that its flow will have, or says so and does not.
    pub(super) fn map_port(&mut self, n: usize, truly: bool) {
        let inner = SocketAddr::new(self.hosts[n].address, [CP, SP][n]);
        let router = self.net.gateway(self.realms[n]).expect("it has one");
        let outside = if router.behaviour().translates { 45_000 } else { inner.port() };
        if truly {
            if router.behaviour().translates {
                router.hand_in(outside, inner);
            } else {
                router.forward(outside, inner);
            }
        }
        let ip = if router.behaviour().translates { router.outer() } else { inner.ip() };
        self.mapped.insert(n, SocketAddr::new(ip, outside));
    }

    /// Both join.
    pub(super) fn join(&mut self) {
        let server = self.server.at;
        for n in 0..self.hosts.len() {
            self.hosts[n].member.server_at(self.now, server);
        }
        let all = |world: &Self| world.hosts.iter().all(|host| host.member.standing() == Standing::Joined);
        let limit = self.now + Duration::from_secs(60);
        while !all(self) && self.now < limit {
            self.step();
        }
        assert!(all(self), "they did not join");
    }

    /// Both join and find out about their NATs.
    pub(super) fn survey(&mut self) {
        self.join();
        self.run(Duration::from_secs(5));
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// The first host asks for the second one's name.
    pub(super) fn allocate(&mut self) -> Result<Path, Outcome> {
        let name = Name::new("alice.chat").unwrap();
        let now = self.now;
        self.hosts[1].member.add_name(now, &name);
        if self.hosts[0].member.standing() != Standing::Joined {
            self.join();
        }
        self.run(Duration::from_secs(1));
        let setup = self.setup(0, CP);
        let ask = Attempt::ask(self.now, setup, name, HostId(0), 0);
        self.hosts[0].attempts.insert(CP, ask);
        let limit = self.now + Duration::from_secs(10);
        let mut met = None;
        while self.now < limit {
            self.step();
            let (port, attempt) = self.hosts[0].attempts.first_key_value().expect("it asks");
            let port = *port;
            if attempt.meeting().is_some() {
                met.get_or_insert(self.now);
            }
            match attempt.result().cloned() {
                Some(Ok(won)) => {
                    let took = self.now - met.unwrap();
                    self.check_other_side(port, won.at);
                    return Ok(Path { at: won.at, way: won.way, took });
                }
                Some(Err(trouble)) => return Err(Outcome::Trouble(trouble)),
                None => {}
            }
        }
        Err(Outcome::NeverEnded)
    }

    /// What the asker says next arrives at the other, from an address that a sealed hello came from.
    fn check_other_side(&mut self, port: u16, at: SocketAddr) {
        for _ in 0..20 {
            let (asker, from) = (self.hosts[0].at, SocketAddr::new(self.hosts[0].address, port));
            self.net.send(self.now, asker, from, at, REQUEST.to_vec());
            self.run(ms(200));
        }
        let asked = self.hosts[1].attempts.values().next().expect("it met");
        assert!(self.requested && matches!(asked.result(), Some(Ok(_))), "{:?}", asked.result());
    }

    pub(super) fn setup(&mut self, n: usize, port: u16) -> Setup {
        let ours = WireId(self.rng.next_u64());
        let host = &self.hosts[n];
        Setup {
            session: host.member.session().clone(),
            server: self.server.at,
            relay: host.member.relay(),
            ours,
            locals: vec![SocketAddr::new(host.address, port)],
            cookie: host.member.cookie().to_vec(),
            nat: host.member.nat(),
            mapped: Mapped { flow: self.mapped.get(&n).copied(), shim: None },
            hold: None,
            round_trip: host.member.round_trip(),
            deadline: self.now + PATIENCE,
        }
    }

    /// Until the next thing has happened, at most 100 ms.
    pub(super) fn step(&mut self) {
        self.flush();
        let mut next = self.now + ms(100);
        if let Some(neighbour) = &self.neighbour {
            next = next.min(neighbour.next.max(self.now));
        }
        let timers = self.hosts.iter().flat_map(|host| {
            host.attempts.values().map(Attempt::poll_timeout).chain([host.member.poll_timeout()]).flatten()
        });
        for at in timers.chain(self.net.next_at()) {
            next = next.min(at.max(self.now));
        }
        self.now = next;
        while let Some(event) = self.net.poll(self.now) {
            if let Event::Datagram(datagram) = event {
                self.arrived(datagram.host, datagram.from, datagram.to, &datagram.bytes);
            }
        }
        self.neighbour_talks();
        let now = self.now;
        for host in &mut self.hosts {
            host.member.handle_timeout(now);
            host.attempts.values_mut().for_each(|attempt| attempt.handle_timeout(now));
        }
        self.flush();
    }

    fn arrived(&mut self, host: Host, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        if host == self.server_at {
            for (port, to, bytes) in self.server.handle(now, from, to, bytes) {
                self.net.send(now, self.server_at, SocketAddr::new(self.server.at.ip(), port), to, bytes);
            }
            return;
        }
        if Some(host) == self.mirror {
            self.mirrored += 1;
            return self.net.send(now, host, to, from, bytes.to_vec());
        }
        if self.neighbour.as_ref().is_some_and(|neighbour| neighbour.at == host) {
            return;
        }
        // What comes to where a host has been is lost.
        let Some(n) = self.hosts.iter().position(|known| known.at == host) else { return };
        if bytes == REQUEST {
            let socket = to.port().checked_sub(SEARCHING).map(usize::from);
            for (port, asked) in &mut self.hosts[n].attempts {
                self.requested |= *port == to.port() && asked.take(from).is_some()
                    || socket.is_some_and(|socket| asked.take_search(socket, from));
            }
            return;
        }
        assert!(is_ours(bytes) || !self.noise.is_empty());
        if let Some(socket) = to.port().checked_sub(MEASURING).map(usize::from).filter(|socket| *socket < SOCKETS) {
            return self.hosts[n].member.handle_measuring(socket, from, bytes);
        }
        if to.port() == LISTEN {
            let _ = self.hosts[n].member.handle(now, from, bytes, &mut self.rng);
        } else if let Some(socket) = to.port().checked_sub(SEARCHING).map(usize::from)
            && !self.hosts[n].attempts.contains_key(&to.port())
        {
            for attempt in self.hosts[n].attempts.values_mut() {
                let _ = attempt.handle_search(now, socket, from, bytes, &mut self.rng);
            }
        } else if self.deaf == Some(n) && from.ip() != self.server.at.ip() {
            // Lost.
        } else if let Some(attempt) = self.hosts[n].attempts.get_mut(&to.port()) {
            let _ = attempt.handle(now, from, bytes, &mut self.rng);
        }
    }

    /// What they want to say goes out; what they want done is done.
    fn flush(&mut self) {
        for n in 0..self.hosts.len() {
            while let Some(event) = self.hosts[n].member.poll_event() {
                if event == member::Event::Measure {
                    self.hosts[n].member.measure(self.now, &mut self.rng);
                } else if let member::Event::Introduction(introduction) = event
                    && self.hosts[n].attempts.is_empty()
                {
                    let setup = self.setup(n, SP);
                    let attempt = Attempt::meet(self.now, setup, introduction);
                    self.hosts[n].attempts.insert(SP, attempt);
                }
            }
            let (now, at, address) = (self.now, self.hosts[n].at, self.hosts[n].address);
            while let Some((to, bytes)) = self.hosts[n].member.poll_output() {
                self.net.send(now, at, SocketAddr::new(address, LISTEN), to, bytes);
            }
            for (socket, to, bytes) in self.hosts[n].member.poll_measuring(now) {
                let port = MEASURING + u16::try_from(socket).unwrap();
                self.net.send(now, at, SocketAddr::new(address, port), to, bytes);
            }
            self.search(n);
            for port in self.hosts[n].attempts.keys().copied().collect::<Vec<_>>() {
                while let Some((to, bytes)) = self.hosts[n].attempts.get_mut(&port).unwrap().poll_output() {
                    *self.sent_to.entry(to).or_default() += 1;
                    let from = SocketAddr::new(address, port);
                    for noise in self.noise.clone() {
                        self.net.inject(now, Realm::INTERNET, to, from, [b"\0Flow\x01", &noise[..]].concat());
                    }
                    self.net.send(now, at, from, to, bytes);
                }
            }
        }
    }
}

//! Two hosts and the network between them.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sim::{Event, Kind, Link, Network, Realm};

use proto::rendezvous::SessionId;

use super::super::rendezvous::predict::Level;
use super::super::rendezvous::tests::server::Server;
use super::super::rendezvous::{Rendezvous, Session};
use super::host::{Answering, Host, Sent};
use super::*;

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) net: Network,
    pub(super) hosts: [Host; 2],
    stations: [sim::Host; 2],
    /// Behind which box each is.
    realms: [Realm; 2],
    link: Link,
    /// Places that hosts have been in.
    places: u8,
    pub(super) rng: ChaCha12Rng,
    /// Everything a program sent: by which host's which flow.
    sdus: BTreeMap<Vec<u8>, (usize, FlowId)>,
    /// What shims sent last; programs may send the like.
    wire: Vec<(SocketAddr, Vec<u8>)>,
    /// Where bits change, contents prove nothing.
    pub(super) corrupts: bool,
    /// The rendezvous, and where it stands.
    pub(super) server: Option<(sim::Host, Server)>,
    /// Host 0 is behind a box.
    pub(super) boxed: bool,
    steps: u64,
}

/// One millisecond from end to end.
fn kind_link() -> Link {
    Link { delay: Duration::from_micros(500), ..Link::default() }
}

impl World {
    /// Host 0 ("a") behind a box asks host 1 for "echo"; from one in the open, host 1 asks for "back". Nobody serves
    /// "nobody".
    pub(super) fn new(seed: u64, kind: Kind, link: &Link) -> Self {
        let mut net = Network::new(seed);
        let [a, b] = [addr(A), addr(B)];
        let place = kind.build(&mut net, a.ip());
        let mut join = |realm, ip| net.host(realm, ip, link.clone(), link.clone());
        let stations = [join(place.realm, place.address), join(Realm::INTERNET, b.ip())];
        let inner = SocketAddr::new(place.address, a.port());
        let mut hosts = [Host::new(inner, seed, 1_000_000), Host::new(b, seed, 2_000_000)];
        for (host, serves, row, at) in [(0, "back", "echo", b), (1, "echo", "back", a)] {
            hosts[host].serve(serves);
            hosts[host].know(row, at);
            hosts[host].know("nobody", at);
        }
        let corrupts = link.corrupt > 0.0;
        Self {
            now: origin(),
            net,
            hosts,
            stations,
            realms: [place.realm, Realm::INTERNET],
            link: link.clone(),
            places: 2,
            rng: ChaCha12Rng::seed_from_u64(seed),
            sdus: BTreeMap::new(),
            wire: Vec::new(),
            corrupts,
            server: None,
            boxed: kind != Kind::Open,
            steps: 0,
        }
    }

    /// The host's accepted flows are on its listen port. There an address that a client uses again, before it is known
    /// that its flow is over, is still the old flow's: as many ports as in life make that as rare.
    pub(super) fn share(&mut self, host: usize) {
        self.hosts[host].settings.shares = Some(owner().uid);
        for host in &mut self.hosts {
            host.settings.cp = (10_000, 49_999);
            host.begin_anew();
        }
    }

    /// Both are behind boxes, and members of a session: host 0 asks for "echo" of host 1 through a rendezvous.
    pub(super) fn through_rendezvous(seed: u64, kinds: [Kind; 2], link: &Link) -> Self {
        Self::punching(seed, kinds, link, Level::default())
    }

    /// The same, and what both do beyond plain hellos.
    pub(super) fn punching(seed: u64, kinds: [Kind; 2], link: &Link, punch: Level) -> Self {
        let mut world = Self::new(seed, kinds[0], link);
        let place = kinds[1].build(&mut world.net, "203.0.113.2".parse().unwrap());
        let inner = SocketAddr::new(place.address, PORT);
        world.realms[1] = place.realm;
        world.stations[1] = world.net.host(place.realm, place.address, link.clone(), link.clone());
        world.hosts[1] = Host::new(inner, seed, 2_000_000);
        world.hosts[1].serve("echo");
        let server = Server::new(addr("198.51.100.1:3360"));
        for (host, id) in world.hosts.iter_mut().zip([1_000_000, 2_000_000]) {
            let session = Session { id: SessionId::of("darkreign"), key: server.key.clone(), host: HostId(id), punch };
            host.meet_at(Rendezvous { server: server.at.to_string(), name: "darkreign".into(), session });
        }
        let station = world.net.host(Realm::INTERNET, server.at.ip(), Link::default(), Link::default());
        world.server = Some((station, server));
        world.boxed = true;
        world
    }

    /// On a good network.
    pub(super) fn kind() -> Self {
        Self::new(1, Kind::Open, &kind_link())
    }

    pub(super) fn ask(&mut self, host: usize, to: &str, timeout: u64) -> FlowId {
        let flow = self.hosts[host].ask(self.now, to, timeout);
        self.settle();
        flow
    }

    /// Sends what the hosts want sent.
    pub(super) fn settle(&mut self) {
        for host in 0..2 {
            for (from, to, bytes) in self.hosts[host].carry_out(self.now) {
                if self.wire.len() > 7 {
                    self.wire.remove(0);
                }
                self.wire.push((to, bytes.clone()));
                self.send(host, (from, to, bytes));
            }
            for flow in std::mem::take(&mut self.hosts[host].eager) {
                self.talk(host, flow);
            }
        }
    }

    fn send(&mut self, host: usize, (from, to, bytes): Sent) {
        self.net.send(self.now, self.stations[host], from, to, bytes);
    }

    /// A program sends an SDU on its flow: a few bytes, or something that looks like what shims say.
    pub(super) fn talk(&mut self, host: usize, flow: FlowId) {
        let Some(&(local, peer)) = self.hosts[host].live().get(&flow) else { return };
        // Of flows whose ids it cannot know: those of its own would make it speak for the shims.
        let ids = self.hosts[host].story.ends[&flow].ids.unwrap_or_default();
        let known = |bytes: &Vec<u8>| [ids.0, ids.1].iter().any(|id| bytes.windows(8).any(|w| w == id.0.to_be_bytes()));
        let dice = self.rng.next_u32() as usize;
        // Nor to where a shim listens: when the flow is over there, they are what they look like.
        let like = if dice.is_multiple_of(3) && peer.port() != PORT { self.wire.get(dice / 3 % 8) } else { None };
        let mut bytes = like.map(|(_, bytes)| bytes).filter(|bytes| !known(bytes)).cloned().unwrap_or_default();
        // A request that comes back is as long as it was.
        bytes.truncate(proto::shim::DATAGRAM - 8);
        bytes.extend_from_slice(&(self.sdus.len() as u64).to_be_bytes());
        self.sdus.insert(bytes.clone(), (host, flow));
        *self.hosts[host].story.sent.entry(flow).or_default() += 1;
        self.send(host, (local, peer, bytes));
    }

    /// Somebody who heard all that shims said says their last answers again, from an address of its own.
    pub(super) fn stranger_talks(&mut self) {
        let from = addr(STRANGER);
        for (to, bytes) in self.wire.clone() {
            // Requests are anybody's to send, and control datagrams are believed of whoever knows both ids.
            if bytes.len() < proto::shim::DATAGRAM && bytes.first() != Some(&0) {
                self.net.inject(self.now, Realm::INTERNET, from, to, bytes);
            }
        }
    }

    /// Each program sends one SDU on each of its flows.
    pub(super) fn everybody_talks(&mut self) {
        for host in 0..2 {
            for flow in self.hosts[host].live().into_keys() {
                self.talk(host, flow);
            }
        }
    }

    /// Up to the next thing that happens, or `until`. `false`: nothing happens before.
    fn step(&mut self, until: Instant) -> bool {
        self.steps += 1;
        assert!(self.steps < 100_000, "it goes on for ever");
        let hosts = self.hosts.iter().filter_map(Host::next_at);
        let Some(at) = hosts.chain(self.net.next_at()).min().filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(at);
        while let Some(event) = self.net.poll(self.now) {
            match event {
                Event::Datagram(datagram) if self.is_server(datagram.host) => self.serve(&datagram),
                Event::Datagram(datagram) => {
                    let Some(host) = self.number(datagram.host) else { continue };
                    if !self.hosts[host].arrive(self.now, datagram.from, datagram.to, &datagram.bytes) {
                        self.net.refuse(self.now, &datagram);
                    }
                }
                Event::Unreachable { host, .. } if self.is_server(host) => {}
                Event::Unreachable { host, local, peer } => {
                    let Some(host) = self.number(host) else { continue };
                    self.hosts[host].unreachable(self.now, local, peer);
                }
            }
            self.settle();
        }
        for host in 0..2 {
            while self.hosts[host].wake(self.now) {
                self.settle();
            }
        }
        true
    }

    fn is_server(&self, station: sim::Host) -> bool {
        self.server.as_ref().is_some_and(|(known, _)| *known == station)
    }

    /// The rendezvous answers.
    fn serve(&mut self, datagram: &sim::Datagram) {
        let Some((station, server)) = &mut self.server else { return };
        for (port, to, bytes) in server.handle(self.now, datagram.from, datagram.to, &datagram.bytes) {
            self.net.send(self.now, *station, SocketAddr::new(server.at.ip(), port), to, bytes);
        }
    }

    /// Nobody is where a host was.
    fn number(&self, station: sim::Host) -> Option<usize> {
        self.stations.iter().position(|known| *known == station)
    }

    /// Runs for a time, milliseconds.
    pub(super) fn run(&mut self, time: u64) {
        let until = self.now + ms(time);
        while self.step(until) {}
    }

    /// Runs for a time at most, until something is so.
    pub(super) fn run_until(&mut self, time: u64, is_so: impl Fn(&Self) -> bool) {
        let until = self.now + ms(time);
        while !is_so(self) && self.step(until) {}
    }

    /// Runs until host 0's latest `flow_alloc` is answered.
    pub(super) fn run_until_told(&mut self) {
        self.run_until(70_000, |world| world.hosts[0].story.asked.last().is_none_or(|asked| !asked.told.is_empty()));
    }

    /// Both hosts have other links from now on.
    pub(super) fn relink(&mut self, up: &Link, down: &Link) {
        for station in self.stations {
            self.net.relink(station, up.clone(), down.clone());
        }
    }

    /// A host goes somewhere else: to an address behind another box, or in the open. What is still on its way to where it was is lost.
    pub(super) fn goes(&mut self, host: usize, kind: Kind) {
        self.places += 1;
        let place = kind.build(&mut self.net, IpAddr::from([203, 0, 113, self.places]));
        let ip = match place.realm {
            Realm::INTERNET => place.address,
            _ => IpAddr::from([192, 168, self.places, 2]),
        };
        self.realms[host] = place.realm;
        self.stations[host] = self.net.host(place.realm, ip, self.link.clone(), self.link.clone());
        self.hosts[host].goes(self.now, ip);
        self.settle();
    }

    /// The box before a host is another kind from now on; what it learned stays.
    pub(super) fn rebox(&mut self, host: usize, kind: Kind) {
        let gateway = self.net.gateway(self.realms[host]).expect("a box");
        gateway.behave(kind.behaviour().expect("a box's"));
    }

    /// The box before a host restarts.
    pub(super) fn forget(&mut self, host: usize) {
        self.net.gateway(self.realms[host]).expect("a box").forget();
    }

    /// The network is kind from now on, and kernels and programs are.
    fn heal(&mut self) {
        self.net.unscript();
        self.relink(&kind_link(), &kind_link());
        for host in &mut self.hosts {
            (host.manners.trouble, host.manners.untaken) = (0, 0);
            host.manners.answering = Answering::Accept { after: 0 };
        }
    }

    /// The network heals, time passes, and what is then left must be flows that both sides have; all flows are
    /// deallocated, time passes, and nothing must be left. What was told on the way must be true. `Err`: what is wrong.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.heal();
        // Longer than most deadlines, any telling and any draining; then as long as it takes to find, one after the
        // other, flows that only one side has and no SDU tells of.
        self.run(40_000);
        for _ in 0..16 {
            if self.mirrored().is_ok() {
                break;
            }
            self.run(10_000);
        }
        for _ in 0..2 {
            self.everybody_talks();
            self.run(15_000);
        }
        if !self.corrupts {
            self.judge()?;
        }
        self.end_all()?;
        for host in &self.hosts {
            host.shim.as_ref().expect("it came back").assert_empty();
            if host.open_sockets() > 0 {
                return Err(format!("{} sockets are left", host.open_sockets()));
            }
        }
        Ok(())
    }

    /// One side of each flow closes it, and in this quiet the other hears so at once and for that reason.
    fn end_all(&mut self) -> Result<(), String> {
        let mut told = Vec::new();
        for flow in self.hosts[0].live().into_keys() {
            let Some(peer) = self.peer_of(flow) else { continue };
            let side = (self.rng.next_u32() % 2) as usize;
            let ends = [flow, peer];
            self.hosts[side].leave(self.now, ends[side], false);
            self.settle();
            told.push((1 - side, ends[1 - side]));
        }
        self.run(5000);
        for (host, flow) in told {
            self.hosts[host].story.ends[&flow].heard_of_dealloc().map_err(|what| format!("flow {flow}: {what}"))?;
        }
        if !self.corrupts {
            return Ok(());
        }
        // Where bits changed, flows may have no peer, and peers not know whose word it is: eight tellings for nothing.
        for host in 0..2 {
            for flow in self.hosts[host].live().into_keys() {
                self.hosts[host].leave(self.now, flow, false);
                self.settle();
            }
        }
        self.run(45_000);
        Ok(())
    }

    /// Host 1's end of host 0's flow; not where bits changed, which may be anything's.
    fn peer_of(&self, flow: FlowId) -> Option<FlowId> {
        let (ours, theirs) = self.hosts[0].story.ends[&flow].ids?;
        let live = self.hosts[1].live();
        live.into_keys().find(|peer| self.hosts[1].story.ends[peer].ids == Some((theirs, ours)) && !self.corrupts)
    }

    /// Both sides have the same flows, and the shims know of no others.
    fn mirrored(&self) -> Result<(), String> {
        let ends = [0, 1].map(|n| self.hosts[n].live());
        let flows = [0, 1].map(|n| ends[n].keys().copied().collect::<Vec<_>>());
        let stories = [0, 1].map(|n| &self.hosts[n].story);
        model::mirrored(stories, [&flows[0], &flows[1]]).map_err(|what| format!("{what}: {ends:?}"))?;
        for (host, flows) in self.hosts.iter().zip(&flows) {
            let census = host.shim.as_ref().map(Shim::census);
            if census != Some((flows.len(), 0)) {
                return Err(format!("{flows:?} live, the shim says {census:?}"));
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), String> {
        model::judge([0, 1].map(|n| &self.hosts[n].story))?;
        self.mirrored()?;
        self.flows_carry()?;
        self.sdus_are_the_peers()
    }

    /// In the quiet, what was sent last on each flow was read at its other end. Not behind boxes: they may have forgotten
    /// a flow without keep-alives.
    fn flows_carry(&self) -> Result<(), String> {
        for flow in self.hosts[0].live().into_keys().filter(|_| !self.boxed) {
            let Some(peer) = self.peer_of(flow) else { continue };
            for ends in [[(0, flow), (1, peer)], [(1, peer), (0, flow)]] {
                let [from, (host, to)] = ends;
                let last = self.sdus.iter().filter(|(_, sender)| **sender == from).map(|(bytes, _)| bytes);
                let last = last.max_by_key(|bytes| serial(bytes));
                if !self.hosts[host].story.read.iter().any(|(of, bytes)| *of == to && Some(bytes) == last) {
                    return Err(format!("flow {from:?}: its SDUs do not arrive"));
                }
            }
        }
        Ok(())
    }

    /// Programs read what the flow's other end sent, nothing else.
    fn sdus_are_the_peers(&self) -> Result<(), String> {
        for (here, host) in self.hosts.iter().enumerate() {
            for (flow, bytes) in &host.story.read {
                let Some((there, sender)) = self.sdus.get(bytes) else {
                    return Err(format!("flow {flow}: a program read what no program sent: {bytes:?}"));
                };
                let ids = self.hosts[*there].story.ends[sender].ids;
                if *there == here || ids.map(|(ours, theirs)| (theirs, ours)) != host.story.ends[flow].ids {
                    return Err(format!("flow {flow}: an SDU of flow {sender}, which is not its peer"));
                }
            }
        }
        Ok(())
    }
}

/// The number at the end of an SDU.
fn serial(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(8)..]
}

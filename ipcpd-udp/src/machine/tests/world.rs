//! Two hosts with a machine each, a kernel and programs that are played, and a network that loses, doubles, delays.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

/// What the network does with one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Deliver,
    Lose,
    Double,
    /// Behind what is sent within this time.
    Delay(u64),
}

/// What the accepting program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answering {
    Accept { after: u64 },
    Refuse { after: u64 },
    Never,
}

struct Socket {
    local: SocketAddr,
    peer: Option<SocketAddr>,
    filter: Filter,
    queue: Vec<Vec<u8>>,
    revoked: bool,
}

pub(super) struct Host {
    pub(super) shim: Shim,
    listen: SocketAddr,
    sockets: BTreeMap<Key, Socket>,
    pub(super) answering: Answering,
    arrived: BTreeMap<Key, Instant>,
    next_flow: u64,
    pub(super) allocated: u32,
    pub(super) failed: Vec<Failure>,
    pub(super) offers: BTreeMap<FlowId, Key>,
    pub(super) ended: Vec<(FlowId, EndReason)>,
    /// What programs read.
    pub(super) sdus: Vec<Vec<u8>>,
    /// Programs read what arrives.
    pub(super) reads: bool,
    /// In a hundred: sockets that cannot be opened or connected, tokens nobody takes.
    pub(super) trouble: u32,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) hosts: [Host; 2],
    network: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    fates: Box<dyn FnMut(&mut ChaCha12Rng) -> Fate>,
    pub(super) rng: ChaCha12Rng,
    sent: u64,
    steps: u64,
}

impl Host {
    fn new(listen: &str, seed: u64, flows_from: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        bytes[8] = flows_from as u8;
        Self {
            shim: Shim::new(settings(listen), bytes),
            listen: addr(listen),
            sockets: BTreeMap::new(),
            answering: Answering::Accept { after: 0 },
            arrived: BTreeMap::new(),
            next_flow: flows_from,
            allocated: 0,
            failed: Vec::new(),
            offers: BTreeMap::new(),
            ended: Vec::new(),
            sdus: Vec::new(),
            reads: true,
            trouble: 0,
        }
    }

    /// Everything sent by what the machine wants now.
    fn carry_out(&mut self, now: Instant, rng: &mut ChaCha12Rng) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(output) = self.shim.poll_output() {
            let mut trouble = || rng.next_u32() % 100 < self.trouble;
            match output {
                Output::Open { key, port, .. } => {
                    let local = SocketAddr::new(self.listen.ip(), port);
                    let result = if trouble() { Err(OpenError::Exhausted) } else { Ok(local) };
                    if result.is_ok() {
                        assert!(!self.sockets.values().any(|socket| socket.local == local), "a port twice");
                        let socket =
                            Socket { local, peer: None, filter: Filter::Flow, queue: Vec::new(), revoked: false };
                        self.sockets.insert(key, socket);
                    }
                    self.shim.opened(now, key, result);
                }
                Output::SendListen { to, bytes } => sent.push((self.listen, to, bytes)),
                Output::SendFlow { key, to, bytes } => {
                    let socket = &self.sockets[&key];
                    sent.push((socket.local, to.or(socket.peer).expect("connected"), bytes));
                }
                Output::Connect { key, peer, filter } => {
                    let result = if trouble() { Err("trouble".to_owned()) } else { Ok(1472) };
                    let socket = self.sockets.get_mut(&key).unwrap();
                    (socket.peer, socket.filter) = (Some(peer), filter);
                    self.shim.connected(now, key, result);
                }
                Output::Refilter { key, filter } => self.sockets.get_mut(&key).unwrap().filter = filter,
                Output::Arrived { key, .. } => drop(self.arrived.insert(key, now)),
                Output::Abandon { key } => drop(self.arrived.remove(&key)),
                Output::Offer { key, flow, .. } => {
                    assert_eq!(self.offers.insert(flow, key), None, "flow {flow} offered twice");
                    if trouble() { self.shim.not_taken(now, flow) } else { self.shim.taken(now, flow) }
                }
                Output::Allocated { .. } => self.allocated += 1,
                Output::Failed { failure, .. } => self.failed.push(failure),
                Output::CheckSent { key } => self.shim.sent_all(now, key, true),
                Output::CheckRead { key } => {
                    let all = self.sockets[&key].queue.is_empty();
                    self.shim.read_all(now, key, all);
                }
                Output::Revoke { key } => self.sockets.get_mut(&key).unwrap().revoked = true,
                Output::Close { key } => drop(self.sockets.remove(&key).expect("an open socket")),
                Output::Ended { flow, reason } => self.ended.push((flow, reason)),
                Output::Count { key, .. } => self.shim.counted(key, 0),
                Output::Look { key, .. } => self.shim.looked(now, key, 0),
                Output::Move { key, peer } => self.sockets.get_mut(&key).unwrap().peer = Some(peer),
                Output::Catch { .. } | Output::Uncatch { .. } => {}
                Output::Withdraw { .. } | Output::Gone { .. } | Output::Forget { .. } | Output::Stopped => {}
            }
        }
        sent
    }

    /// What irmd and the program say about requests that arrived; whether they said anything.
    fn answer(&mut self, now: Instant) -> bool {
        let (wait, accepts) = match self.answering {
            Answering::Accept { after } => (after, true),
            Answering::Refuse { after } => (after, false),
            Answering::Never => return false,
        };
        let due: Vec<Key> = self.arrived.iter().filter(|(_, at)| **at + ms(wait) <= now).map(|(key, _)| *key).collect();
        for &key in &due {
            self.arrived.remove(&key);
            self.next_flow += 1;
            let accept = Accept { flow: FlowId(self.next_flow), owner: owner(), data: Vec::new() };
            let answer = if accepts { Ok(accept) } else { Err(Failure::new(FailureKind::Refused, "no")) };
            self.shim.answered(now, key, answer);
        }
        !due.is_empty()
    }

    /// A datagram arrives. `false`: nothing is open there.
    fn arrive(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        if to == self.listen {
            self.shim.handle_datagram(now, Via::Listen, from, bytes);
            return true;
        }
        let Some((&key, socket)) = self.sockets.iter_mut().find(|(_, socket)| socket.local == to) else { return false };
        match socket.peer {
            None => self.shim.handle_datagram(now, Via::Flow(key), from, bytes),
            Some(peer) if peer != from => return false,
            Some(_) if socket.revoked || passes_not(&socket.filter, bytes) => {}
            Some(_) if self.reads => self.sdus.push(bytes.to_vec()),
            Some(_) => socket.queue.push(bytes.to_vec()),
        }
        true
    }

    /// ICMP: nothing is open where something was sent from here.
    fn unreachable(&mut self, now: Instant, from: SocketAddr) {
        let Some((&key, socket)) = self.sockets.iter().find(|(_, socket)| socket.local == from) else { return };
        let connected = socket.peer.is_some();
        let flow = self.offers.iter().find(|(_, held)| **held == key).map(|(flow, _)| *flow);
        match flow {
            Some(flow) if connected => self.shim.suspect(now, flow),
            _ => self.shim.handle_unreachable(now, key, Unreachable::Port),
        }
    }

    pub(super) fn live(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.sockets.values().filter(|socket| !socket.revoked).filter_map(|s| Some((s.local, s.peer?))).collect()
    }
}

/// The kernel's filters, in as far as the programs of this world care.
fn passes_not(filter: &Filter, bytes: &[u8]) -> bool {
    let (name, ours) = match filter {
        Filter::Nothing => return true,
        Filter::Flow => return bytes.is_empty(),
        Filter::NoControl(ours) => return bytes.is_empty() || is_control(bytes, *ours),
        Filter::NoAnswers(name, ours) | Filter::NoEchoes(name, ours) => (name, ours),
    };
    let prefix = proto::shim::answer_prefix(name, *ours);
    let text = name.as_str().as_bytes();
    let late = prefix.iter().all(|(at, want)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(want)));
    bytes.is_empty() || late || is_control(bytes, *ours) || matches!(filter, Filter::NoEchoes(..)) && bytes == text
}

fn is_control(bytes: &[u8], ours: WireId) -> bool {
    let prefix = proto::shim::control_prefix(ours);
    prefix.iter().all(|(at, want)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(want)))
}

impl World {
    pub(super) fn new(seed: u64, fates: impl FnMut(&mut ChaCha12Rng) -> Fate + 'static) -> Self {
        let mut hosts = [Host::new(A, seed, 100), Host::new(B, seed, 200)];
        hosts[0].shim.add_host(name("echo"), addr(B)).unwrap();
        hosts[1].shim.register(name("echo")).unwrap();
        hosts[1].shim.add_host(name("back"), addr(A)).unwrap();
        hosts[0].shim.register(name("back")).unwrap();
        Self {
            now: origin(),
            hosts,
            network: BTreeMap::new(),
            fates: Box::new(fates),
            rng: ChaCha12Rng::seed_from_u64(seed),
            sent: 0,
            steps: 0,
        }
    }

    pub(super) fn ask(&mut self, host: usize, flow: u64, to: &str, timeout: u64) {
        let ask = Ask {
            flow: FlowId(flow),
            name: name(to),
            source: String::new(),
            qos: Qos::raw(),
            timeout: ms(timeout),
            data: Vec::new(),
            owner: owner(),
        };
        self.hosts[host].shim.flow_alloc(self.now, ask).unwrap();
        self.settle();
    }

    /// Sends what the hosts want sent, and lets irmd answer.
    pub(super) fn settle(&mut self) {
        for host in &mut self.hosts {
            loop {
                let sent = host.carry_out(self.now, &mut self.rng);
                let more = host.answer(self.now) || !sent.is_empty();
                for (from, to, bytes) in sent {
                    let (at, copies) = match (self.fates)(&mut self.rng) {
                        Fate::Deliver => (ms(1), 1),
                        Fate::Lose => (ms(0), 0),
                        Fate::Double => (ms(1), 2),
                        Fate::Delay(by) => (ms(by), 1),
                    };
                    for _ in 0..copies {
                        self.sent += 1;
                        self.network.insert((self.now + at, self.sent), (from, to, bytes.clone()));
                    }
                }
                if !more {
                    break;
                }
            }
        }
    }

    /// Up to the next thing that happens, or `until`. `false`: nothing happens before.
    fn step(&mut self, until: Instant) -> bool {
        self.steps += 1;
        assert!(self.steps < 100_000, "it goes on for ever");
        let irmd = self.hosts.iter().filter_map(|host| match host.answering {
            Answering::Accept { after } | Answering::Refuse { after } => {
                host.arrived.values().min().map(|at| *at + ms(after))
            }
            Answering::Never => None,
        });
        let timers = self.hosts.iter().filter_map(|host| host.shim.poll_timeout().map(|(at, _)| at));
        let network = self.network.keys().next().map(|(at, _)| *at);
        let Some(at) = irmd.chain(timers).chain(network).min().filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(at);
        while let Some(entry) = self.network.first_entry()
            && entry.key().0 <= self.now
        {
            let (from, to, bytes) = entry.remove();
            let [sender, receiver] = if from.ip() == self.hosts[0].listen.ip() { [0, 1] } else { [1, 0] };
            if !self.hosts[receiver].arrive(self.now, from, to, &bytes) {
                self.hosts[sender].unreachable(self.now, from);
            }
            self.settle();
        }
        for host in &mut self.hosts {
            host.shim.handle_timeout(self.now);
        }
        self.settle();
        true
    }

    /// Runs for a time.
    pub(super) fn run(&mut self, time: u64) {
        let until = self.now + ms(time);
        while self.step(until) {}
    }

    /// The network does this from now on.
    pub(super) fn turn(&mut self, fates: impl FnMut(&mut ChaCha12Rng) -> Fate + 'static) {
        self.fates = Box::new(fates);
    }

    /// The network is kind from now on.
    pub(super) fn heal(&mut self) {
        self.fates = Box::new(|_| Fate::Deliver);
    }

    /// Each program sends one SDU on each of its flows.
    pub(super) fn everybody_sends(&mut self) {
        for host in 0..2 {
            for (local, peer) in self.hosts[host].live() {
                self.sent += 1;
                self.network.insert((self.now + ms(1), self.sent), (local, peer, b"sdu".to_vec()));
            }
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
}

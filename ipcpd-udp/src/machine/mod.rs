//! What is **decided**: both sides of flow allocation over UDP, and the flows' ends, as one machine.
//!
//! [`Shim`] contains no networking code, takes no time from the operating system and draws no randomness: instants
//! and a seed are its inputs. `io` is the half that does what this half decides.
//!
//! The contract: call a verb ([`Shim::flow_alloc`], [`Shim::dealloc`]) or hand over what happened
//! ([`Shim::handle_datagram`], [`Shim::opened`], …), then take outputs from [`Shim::poll_output`] until there are none,
//! doing each in order, then call [`Shim::handle_timeout`] at [`Shim::poll_timeout`] or earlier. All inputs tolerate
//! early, late and repeated calls: what no longer fits is dropped. States and transitions: [`table`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use handoff::kept::Epoch;
use proto::shim::DATAGRAM;
use proto::v1::{EndReason, Failure, FailureKind};
use proto::{FlowId, HostId, Name, Token, WireId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

mod adopt;
mod answers;
mod client;
mod control;
mod cookie;
mod counters;
pub mod directory;
mod ending;
mod failures;
mod finding;
mod flow;
mod hearing;
mod introduced;
mod keep;
mod listing;
mod liveness;
mod load;
mod mapped;
pub mod mapping;
mod meeting;
mod moving;
mod open;
mod output;
mod peers;
mod ports;
mod program;
pub mod rendezvous;
mod roaming;
mod saying;
mod searching;
mod server;
mod session;
mod shared;
mod sides;
pub mod table;
#[cfg(test)]
mod tests;
pub mod ticket;

pub use adopt::Adopted;
pub use counters::{Counters, Reason};
pub use finding::Sources;
pub use listing::Row;
pub use load::Limits;
pub use output::{Accept, Arrival, Ask, Echo, Filter, Key, OpenError, Output, Owner, Settings, Unreachable, Via};

use answers::Answers;
use directory::fingerprint::Fingerprint;
use directory::{Directory, Full};
use finding::Finding;
use flow::{Flow, RequestKey, State};
use liveness::Pairs;
use load::Load;
use mapping::Mapper;
use moving::Movers;
use peers::Peers;
use ports::{Ports, Resting};
use rendezvous::member::Member;
use searching::Searches;
use sides::Sides;
use table::Phase;

/// Hosts remembered as extended.
const PEERS: usize = 1024;
/// How long a stop waits for acknowledgements.
const STOP: Duration = Duration::from_secs(1);

/// The shim's machine. One task owns it.
#[derive(Debug)]
pub struct Shim {
    settings: Settings,
    rng: ChaCha12Rng,
    directory: Directory,
    /// This host's, which names are published with.
    host_key: Option<Fingerprint>,
    finding: Finding,
    peers: Peers,
    pairs: Pairs,
    ports: Ports,
    answers: Answers,
    counters: Counters,
    load: Load,
    flows: BTreeMap<Key, Flow>,
    last_key: u64,
    by_id: HashMap<FlowId, Key>,
    by_wire: HashMap<WireId, Key>,
    by_request: HashMap<RequestKey, Key>,
    /// Accepting side: (the client's host, its id), for a client that gives up before it knows ours.
    by_client: HashMap<(IpAddr, WireId), Key>,
    /// Accepting side, flows on the listen port: whose the client's address is.
    by_peer: HashMap<SocketAddr, Key>,
    /// In its session with a rendezvous, if the layer has one.
    member: Option<Box<Member>>,
    /// Ports that the router maps, where it may be asked.
    mapper: Option<Box<Mapper>>,
    /// Accepting side, flows through a rendezvous: (who asks, its id).
    by_attempt: HashMap<(HostId, WireId), Key>,
    /// Relayed flows that may move.
    movers: Movers,
    /// Sockets that are no flow's.
    sides: Sides,
    searches: Searches,
    /// The same as by_peer, of flows that are over.
    left: Resting<SocketAddr>,
    /// Accepting side: flows with a second socket on their port.
    catching: BTreeSet<Key>,
    tally: HashMap<Phase, usize>,
    timers: BTreeSet<(Instant, Key)>,
    outputs: VecDeque<Output>,
    stopping: Option<Instant>,
    /// Programs may bring flows of an earlier start back until then.
    recovering: Option<Instant>,
    /// What turns instants into moments that a ticket can hold; without it flows brought back begin anew.
    epoch: Option<Epoch>,
    #[cfg(test)]
    visited: std::collections::BTreeSet<(Phase, table::Cause, Phase)>,
}

impl Shim {
    /// A shim without flows. All its ids and tokens come from the seed, which nobody else may know.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let member = settings.rendezvous.as_ref().map(|rendezvous| {
            Box::new(Member::new(rendezvous.session.clone(), settings.boot, settings.listen, &mut rng))
        });
        let find = settings.rendezvous.iter().map(|at| Output::FindServer { server: at.server.clone() });
        let outputs = find.collect();
        let maps = settings.rendezvous.is_some() && settings.map_ports && settings.listen.is_ipv4();
        let mapper = maps.then(|| Box::new(Mapper::new(settings.ticket_key)));
        Self {
            directory: Directory::new(settings.dns.clone()),
            host_key: None,
            finding: Finding::default(),
            ports: Ports::new(settings.start),
            settings,
            load: Load::new(seed),
            rng,
            member,
            mapper,
            by_attempt: HashMap::new(),
            movers: Movers::default(),
            sides: Sides::default(),
            searches: Searches::default(),
            peers: Peers::new(PEERS),
            pairs: Pairs::default(),
            answers: Answers::default(),
            counters: Counters::default(),
            flows: BTreeMap::new(),
            last_key: 0,
            by_id: HashMap::new(),
            by_wire: HashMap::new(),
            by_request: HashMap::new(),
            by_client: HashMap::new(),
            by_peer: HashMap::new(),
            left: Resting::default(),
            catching: BTreeSet::new(),
            tally: HashMap::new(),
            timers: BTreeSet::new(),
            outputs,
            stopping: None,
            recovering: None,
            epoch: None,
            #[cfg(test)]
            visited: std::collections::BTreeSet::new(),
        }
    }

    /// Ages of flows go on over restarts from now on: what the host's clock says.
    pub fn clock(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
    }

    /// What it was set up with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Strangers' datagrams were found in a queue and dropped.
    pub fn drained(&mut self, datagrams: u64) {
        self.counters.add(Reason::Drained, datagrams);
    }

    /// The static table has a row for the name from now on; a second row replaces the first.
    pub fn add_host(&mut self, name: Name, shim: SocketAddr) -> Result<(), Failure> {
        if shim.is_ipv4() != self.settings.listen.is_ipv4() {
            let text = format!("{shim} cannot be reached from {}: they are of two IP versions", self.settings.listen);
            return Err(Failure::new(FailureKind::Invalid, text));
        }
        self.directory.add_host(name, shim).map_err(full)
    }

    /// The static table has no row for the name any more.
    pub fn remove_host(&mut self, name: &Name) -> bool {
        self.directory.remove_host(name)
    }

    /// A datagram arrived on the listen port, on the port from which a flow is asked for, or on a catcher. Datagrams longer than
    /// the reader's buffer may be handed over cut, as long as more than 1,200 bytes are left.
    pub fn handle_datagram(&mut self, now: Instant, via: Via, from: SocketAddr, bytes: &[u8]) {
        // No socket can have sent from these: an answer would go nowhere or to many.
        if from.port() == 0 || from.ip().is_unspecified() || from.ip().is_multicast() {
            return self.counters.count(Reason::Spoofed);
        }
        match via {
            Via::Flow(key) if self.sides.has(key) => self.handle_side(now, key, from, bytes),
            Via::Flow(key) if self.handle_meeting(now, key, from, bytes) => {}
            Via::Flow(key) => self.handle_answer(now, key, from, bytes),
            Via::Catcher(key) => self.handle_caught(key, from, bytes),
            Via::Listen if proto::rendezvous::is_ours(bytes) => self.handle_session(now, from, bytes),
            Via::Listen if bytes.first() == Some(&0) => self.handle_control(now, from, bytes),
            Via::Listen => self.handle_request(now, from, bytes),
        }
    }

    /// The flow's socket was opened, or not.
    pub fn opened(&mut self, now: Instant, key: Key, result: Result<SocketAddr, OpenError>) {
        let result = result.map(|local| self.place(local));
        if self.sides.has(key) {
            return self.side_opened(now, key, result.ok().map(|(local, _)| local));
        }
        let Some(flow) = self.flows.get_mut(&key) else {
            // Over in the meantime.
            return if result.is_ok() {
                self.out(Output::Close { key })
            };
        };
        if let Ok((local, anywhere)) = result {
            (flow.local, flow.place.anywhere) = (Some(local), anywhere);
            if !flow.is_on_listen_port() {
                self.ports.hold(local.port());
            }
        }
        let result = result.map(|_| ());
        match flow.state {
            State::Opening(_) => self.cp_opened(now, key, result),
            State::Reserving(_) => self.sp_opened(now, key, result),
            State::Meeting(_) => self.met_opened(now, key, result),
            _ => {}
        }
        self.settle(key);
    }

    /// The flow's socket was connected, with the longest SDU the path takes, or not, in the system's words.
    pub fn connected(&mut self, now: Instant, key: Key, result: Result<u32, String>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if let Ok(limit) = result {
            flow.sdu_limit = limit;
        }
        match flow.state {
            State::Joining(_) => self.joined(now, key, result.map(|_| ())),
            State::Reserving(_) | State::Accepting(_) => self.sp_connected(now, key, result.map(|_| ())),
            _ => {}
        }
        self.settle(key);
    }

    /// Ends every flow, tells programs and peers; [`Output::Stopped`] follows within a second.
    pub fn stop(&mut self, now: Instant) {
        self.stopping.get_or_insert(now + STOP);
        self.stop_finding(now);
        self.leave_session(now);
        self.leave_router();
        for key in self.flows.keys().copied().collect::<Vec<_>>() {
            self.end(now, key, EndReason::IpcpStopped);
            self.settle(key);
        }
        self.stop_when_over(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<_> = self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            self.expire(now, key);
            self.settle(key);
        }
        self.pairs_timeout(now);
        self.finding_timeout(now);
        self.session_timeout(now);
        self.mapping_timeout(now);
        self.stop_when_over(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and for the sake of which state.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let flow = self.timers.first().map(|(at, key)| {
            let reason = self.flows.get(key).map_or("over", |flow| flow.state.phase().as_str());
            (*at, reason)
        });
        let stop = self.stopping.map(|at| (at, "stopping"));
        let pair = self.pairs.first().map(|at| (at, "probe"));
        let find = self.next_finding().map(|at| (at, "directory"));
        let session = self.next_of_session().map(|at| (at, "session"));
        let router = self.mapper.as_ref().and_then(|mapper| mapper.poll_timeout()).map(|at| (at, "router"));
        [flow, pair, stop, find, session, router].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn stop_when_over(&mut self, now: Instant) {
        if self
            .stopping
            .is_some_and(|until| until <= now || (self.flows.is_empty() && self.directory.registrar.is_idle()))
        {
            self.stopping = None;
            self.out(Output::Stopped);
        }
    }

    fn tallied(&self, phase: Phase) -> usize {
        self.tally.get(&phase).copied().unwrap_or(0)
    }

    fn full(&self) -> bool {
        self.flows.len() + self.finding.len() >= self.settings.max_flows
    }

    fn next_key(&mut self) -> Key {
        self.last_key += 1;
        Key(self.last_key)
    }

    fn wire_id(&mut self) -> WireId {
        loop {
            let id = WireId(self.rng.next_u64());
            if id.0 != 0 && !self.by_wire.contains_key(&id) {
                return id;
            }
        }
    }

    fn token(&mut self) -> Token {
        let mut token = [0; 16];
        self.rng.fill_bytes(&mut token);
        Token(token)
    }
}

fn full(_: Full) -> Failure {
    let text = format!("the directory holds {} names already; remove some first", directory::MOST);
    Failure::new(FailureKind::Exhausted, text)
}

const _: () = assert!(DATAGRAM < 1280 - 48, "a request is never fragmented");

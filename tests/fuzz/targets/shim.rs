//! The shim's machine under any sequence of inputs, in and out of turn: no panic, no spinning timer, bounded tables, one
//! reply for each allocation, every socket closed in the end.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipcpd_udp::machine::directory::answer::Records;
use ipcpd_udp::machine::directory::domain::Zone;
use ipcpd_udp::machine::directory::trouble::Trouble;
use ipcpd_udp::machine::directory::{Dns, LookedUp, Updated, Waiter};
use ipcpd_udp::machine::rendezvous::predict::Level;
use ipcpd_udp::machine::rendezvous::{Rendezvous, Session};
use ipcpd_udp::machine::{Accept, Ask, Echo, Key, Limits, OpenError, Output, Owner, Settings, Shim, Unreachable, Via};
use libfuzzer_sys::fuzz_target;
use proto::rendezvous::{Envelope, SessionId, SessionKey};
use proto::v1::{Failure, FailureKind};
use proto::{BootId, FlowId, HostId, Name, Qos};

const MAX_FLOWS: usize = 16;
const NAMES: [&str; 4] = ["echo", "other", "x", "unknown"];

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, mut program)) = bytes.split_first() else { return };
    let mut world = World::new(mode);
    while let Some((&op, rest)) = program.split_first() {
        program = rest;
        world.step(op, &mut program);
        world.drain();
    }
    world.end();
});

/// The next byte of the program; zero after its end.
fn next(program: &mut &[u8]) -> u8 {
    let Some((&byte, rest)) = program.split_first() else { return 0 };
    *program = rest;
    byte
}

struct World {
    shim: Shim,
    now: Instant,
    /// Datagrams that the machine sent: what a network may deliver anywhere, doubled, late or damaged.
    sent: Vec<Vec<u8>>,
    /// Flows the machine spoke of, newest last.
    keys: Vec<Key>,
    /// Why the kernel opens no socket, for now.
    kernel: Option<OpenError>,
    open: BTreeSet<Key>,
    /// Second sockets on flows' ports.
    catchers: BTreeSet<Key>,
    /// Allocations and whether they were replied to.
    asked: BTreeMap<Key, bool>,
    /// Look-ups and updates under way, and who waits for the latter.
    looked_for: Vec<Name>,
    updating: Vec<Name>,
    waiters: BTreeSet<Waiter>,
    last_waiter: u64,
    last_id: u64,
    /// The kernel answers every question now.
    ending: bool,
    stopped: bool,
}

impl World {
    fn new(mode: u8) -> Self {
        let settings = Settings {
            layer: "net".into(),
            listen: address(1, 3359),
            host: HostId(1),
            boot: BootId(2),
            start: 1,
            cp: (40_000, 40_020),
            sp: (41_000, 41_020),
            echo: if mode & 1 == 0 { Echo::OnAccept } else { Echo::OnArrival },
            max_flows: MAX_FLOWS,
            max_pending: MAX_FLOWS / 2,
            ticket_key: [7; 32],
            limits: Limits { pending: 6, rate: 100, pending_per_prefix: 5 },
            dns: (mode & 2 != 0).then(dns),
            rendezvous: (mode & 8 != 0).then(rendezvous),
            shares: (mode & 4 != 0).then_some(1000),
            map_ports: false,
        };
        let mut shim = Shim::new(settings, [mode; 32]);
        let now = Instant::now();
        for name in &NAMES[..3] {
            shim.register(now, name_of(name), None).expect("room");
            shim.starts(&name_of(name), *name == "x");
        }
        shim.add_host(name_of("other"), address(2, 3359)).expect("room");
        shim.add_host(name_of("self"), address(1, 3359)).expect("room");
        Self {
            shim,
            now,
            sent: Vec::new(),
            keys: Vec::new(),
            kernel: None,
            open: BTreeSet::new(),
            catchers: BTreeSet::new(),
            asked: BTreeMap::new(),
            looked_for: Vec::new(),
            updating: Vec::new(),
            waiters: BTreeSet::new(),
            last_waiter: 0,
            last_id: 0,
            ending: false,
            stopped: false,
        }
    }

    fn step(&mut self, op: u8, program: &mut &[u8]) {
        let key = self.key(next(program));
        let id = FlowId(u64::from(next(program)) % (self.last_id + 1));
        let now = self.now;
        match op % 24 {
            20 => self.looked_up(program),
            21 => self.updated(program),
            22 => self.name(program),
            23 => drop(self.shim.registrations(now, None, 8)),
            0 => self.ask(program),
            1 | 2 => self.replay(key, program),
            3 => self.raw(key, program),
            4 => self.kernel = None,
            5 => self.kernel = Some(OpenError::PortInUse),
            6 => self.kernel = Some(OpenError::Exhausted),
            7 => self.shim.connected(now, key, Ok(1472)),
            8 => self.shim.connected(now, key, Err("no route".into())),
            9 => self.accept(key),
            10 => self.shim.answered(now, key, Err(Failure::new(FailureKind::Refused, "no"))),
            11 => self.shim.taken(now, id),
            12 => self.shim.not_taken(now, id),
            13 => self.shim.released(now, id),
            14 => self.shim.died(now, id),
            15 => drop(self.shim.dealloc(now, id)),
            16 => self.shim.sent_all(now, key, id.0 % 2 == 0),
            17 => self.shim.read_all(now, key, id.0 % 2 == 0),
            18 => self.pass(next(program)),
            _ => self.seldom(key, id, next(program)),
        }
    }

    /// Our own half opens a socket before it does anything else.
    fn open(&mut self, key: Key, port: u16) {
        let result = match &self.kernel {
            None => {
                assert!(self.open.insert(key), "a second socket for one flow");
                Ok(address(1, port))
            }
            Some(error) => Err(error.clone()),
        };
        self.shim.opened(self.now, key, result);
    }

    fn seldom(&mut self, key: Key, id: FlowId, which: u8) {
        let now = self.now;
        match which % 8 {
            0 => self.shim.cancel(now, id),
            1 => self.shim.suspect(now, id),
            2 => self.shim.handle_unreachable(now, key, Unreachable::Port),
            3 => self.shim.handle_unreachable(now, key, Unreachable::Host),
            4 => self.shim.counted(key, u64::from(which)),
            5 => self.shim.recover(now),
            6 => drop(self.shim.unregister(now, &name_of("x"), None)),
            _ => drop(self.shim.rows(now, Key(0), 8)),
        }
    }

    fn looked_up(&mut self, program: &mut &[u8]) {
        let Some(name) = self.looked_for.pop() else { return };
        let records = match next(program) % 4 {
            0 => Err(Trouble::NoAnswer),
            1 => Err(Trouble::Refused),
            _ => Ok(Records {
                texts: vec![vec![format!("v=flow1 addr=10.0.0.{} exp={}", next(program), next(program)).into_bytes()]],
                addresses: vec![[10, 0, 0, next(program)].into(), [10, 0, next(program), 4].into()],
                ..Records::default()
            }),
        };
        let ttl = Duration::from_secs(next(program).into());
        let looked_up = LookedUp { records, absent: true, server: "ns".into(), ttl, wall: 100 };
        self.shim.looked_up(self.now, &name, &looked_up);
    }

    fn updated(&mut self, program: &mut &[u8]) {
        let Some(name) = self.updating.pop() else { return };
        let result = if next(program) % 2 == 0 { Ok(()) } else { Err(Trouble::NoAnswer) };
        self.shim.updated(self.now, &name, Updated { result, server: "ns".into() });
    }

    /// A name is registered or unregistered, with or without somebody who waits for its directory.
    fn name(&mut self, program: &mut &[u8]) {
        let name = name_of(NAMES[usize::from(next(program)) % NAMES.len()]);
        let choice = next(program);
        self.last_waiter += 1;
        let waiter = (choice & 1 == 0).then_some(Waiter(self.last_waiter));
        let result = if choice & 2 == 0 {
            self.shim.register(self.now, name, waiter)
        } else {
            self.shim.unregister(self.now, &name, waiter)
        };
        if result.is_ok_and(|waits| waits) {
            assert!(self.waiters.insert(Waiter(self.last_waiter)));
        }
    }

    fn key(&self, choice: u8) -> Key {
        // The newest are the most likely to be in the middle of something.
        self.keys.iter().rev().nth(usize::from(choice) % 8).copied().unwrap_or(Key(u64::from(choice)))
    }

    fn ask(&mut self, program: &mut &[u8]) {
        self.last_id += 1;
        let keepalive = next(program);
        let qos = if keepalive % 2 == 0 { Qos::raw() } else { Qos::stream() };
        let ask = Ask {
            flow: FlowId(self.last_id),
            name: name_of(["other", "self", "unknown"][usize::from(next(program)) % 3]),
            source: String::new(),
            qos: Qos { timeout_ms: 0, keepalive_ms: u32::from(keepalive) * 100, ..qos },
            timeout: Duration::from_millis(u64::from(next(program)) * 100),
            data: vec![1; usize::from(next(program)) * 2],
            owner: Owner::default(),
        };
        if let Ok(key) = self.shim.flow_alloc(self.now, ask) {
            assert!(self.asked.insert(key, false).is_none(), "a key was used twice");
            self.keys.push(key);
        }
    }

    fn accept(&mut self, key: Key) {
        self.last_id += 1;
        let accept = Accept { flow: FlowId(self.last_id), owner: Owner::default(), data: vec![2; 3] };
        self.shim.answered(self.now, key, Ok(accept));
    }

    /// Delivers something that was sent before, perhaps with one byte changed.
    fn replay(&mut self, key: Key, program: &mut &[u8]) {
        let (choice, change, at) = (next(program), next(program), next(program));
        let Some(mut datagram) = self.sent.iter().rev().nth(usize::from(choice) % 8).cloned() else { return };
        if change > 127
            && let Some(byte) = datagram.get_mut(usize::from(at))
        {
            *byte ^= change;
        }
        self.deliver(key, next(program), &datagram);
    }

    fn raw(&mut self, key: Key, program: &mut &[u8]) {
        let length = usize::from(next(program)).min(program.len());
        let (datagram, rest) = program.split_at(length);
        *program = rest;
        let from = next(program);
        self.deliver(key, from, datagram);
    }

    fn deliver(&mut self, key: Key, from: u8, datagram: &[u8]) {
        let via = match from % 3 {
            0 => Via::Listen,
            1 => Via::Flow(key),
            _ => Via::Catcher(key),
        };
        let port = if from & 8 == 0 { 3359 } else { 40_000 + u16::from(from >> 4) };
        let sealed = sealed(datagram);
        let datagram = sealed.as_deref().unwrap_or(datagram);
        let source = address((from >> 1 & 3) + 1, port);
        if from == 255 {
            // A program says that it came to its flow's socket.
            let flow = FlowId(key.0 % (self.last_id + 1));
            return self.shim.heard_by_program(self.now, flow, source, datagram);
        }
        self.shim.handle_datagram(self.now, via, source, datagram);
    }

    fn pass(&mut self, choice: u8) {
        let next = self.shim.poll_timeout().map(|(at, _)| at);
        self.now = match (choice % 4, next) {
            (0, Some(at)) | (1, Some(at)) => self.now.max(at),
            (2, _) => self.now + Duration::from_millis(u64::from(choice)),
            _ => self.now + Duration::from_secs(u64::from(choice)),
        };
        self.shim.handle_timeout(self.now);
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.shim.poll_output() {
            outputs += 1;
            assert!(outputs < 64 * MAX_FLOWS, "one input, endless outputs");
            self.perform(output);
        }
        assert!(self.shim.census().0 <= MAX_FLOWS, "more flows than allowed");
        self.sent.drain(..self.sent.len().saturating_sub(16));
        self.keys.drain(..self.keys.len().saturating_sub(32));
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Open { key, port, .. } => self.open(key, port),
            Output::Close { key } => {
                assert!(self.open.remove(&key), "closed what was not open");
                assert!(!self.catchers.contains(&key), "a catcher outlives its flow's socket");
            }
            Output::Catch { key } => {
                assert!(self.open.contains(&key), "a catcher needs the flow's socket");
                assert!(self.catchers.insert(key), "a second catcher for one flow");
                assert!(self.catchers.len() <= MAX_FLOWS, "more catchers than flows");
            }
            Output::Uncatch { key } => assert!(self.catchers.remove(&key), "closed what was not open"),
            Output::Move { key, .. } => assert!(self.open.contains(&key), "moved what was not open"),
            Output::Look { key, .. } => self.shim.looked(self.now, key, 0, 0),
            Output::SendListen { bytes, .. } | Output::SendFlow { bytes, .. } => {
                assert!(bytes.len() <= proto::shim::DATAGRAM, "a datagram over the limit");
                self.sent.push(bytes);
            }
            Output::Arrived { key, .. } => self.keys.push(key),
            Output::Allocated { key, .. } | Output::Failed { key, .. } => {
                let replied = self.asked.insert(key, true);
                assert_eq!(replied, Some(false), "an allocation has one reply");
            }
            Output::Again { key, next } => {
                assert_eq!(self.asked.remove(&key), Some(false), "an allocation has one reply");
                assert!(self.asked.insert(next, false).is_none(), "a key was used twice");
                self.keys.push(next);
            }
            Output::LookUp { name, .. } => {
                // One that is never heard of again is given up, and may be wanted again.
                self.looked_for.retain(|asked| *asked != name);
                self.looked_for.push(name);
            }
            Output::Update { own, .. } => {
                self.updating.retain(|name| *name != own.name);
                self.updating.push(own.name);
            }
            Output::Tell { waiter, .. } => assert!(self.waiters.remove(&waiter), "told twice"),
            Output::Connect { key, .. } if self.ending => self.shim.connected(self.now, key, Err("over".into())),
            Output::CheckSent { key } if self.ending => self.shim.sent_all(self.now, key, true),
            Output::CheckRead { key } if self.ending => self.shim.read_all(self.now, key, true),
            Output::FindServer { .. } => self.shim.server_found(self.now, Some(address(3, 3359))),
            Output::Stopped => self.stopped = true,
            _ => {}
        }
    }

    /// Everybody stops: within the time of a stop all is over.
    fn end(&mut self) {
        self.ending = true;
        self.shim.stop(self.now);
        self.drain();
        let mut turns = 0;
        while let Some((at, reason)) = self.shim.poll_timeout() {
            turns += 1;
            assert!(turns < 10_000, "the timer spins: {reason}");
            self.now = self.now.max(at);
            self.shim.handle_timeout(self.now);
            self.drain();
        }
        assert!(self.stopped, "a stop that does not end");
        assert_eq!(self.shim.census().0, 0, "flows that never end");
        assert!(self.open.is_empty() && self.catchers.is_empty(), "left open: {:?} {:?}", self.open, self.catchers);
        assert!(self.asked.values().all(|replied| *replied), "an allocation without a reply");
    }
}

fn dns() -> Dns {
    Dns { zone: Zone::new("z").expect("a zone"), writes: true, lifetime: 30, ttl: 10 }
}

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

fn name_of(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn session_key() -> SessionKey {
    SessionKey::new("session", b"key")
}

fn rendezvous() -> Rendezvous {
    let session = Session { id: SessionId::of("session"), key: session_key(), host: HostId(1), punch: Level::Plain };
    Rendezvous { server: "10.0.0.3:3359".into(), name: "session".into(), session }
}

/// The fuzzer makes no seal: what reads as a rendezvous' word gets a true one.
fn sealed(datagram: &[u8]) -> Option<Vec<u8>> {
    let envelope = Envelope::read(datagram).ok()?;
    Some(envelope.head.encode(&session_key(), &envelope.unsealed().ok()?))
}

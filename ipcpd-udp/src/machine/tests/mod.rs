//! The machine by itself ([`client`], [`server`], [`living`], [`ending`]), two of them on a bad network ([`world`] of
//! [`host`]s, [`fates`], [`lives`], held against [`model`]), and one against
//! what the classic shim sent in 2016 ([`wire`]).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::shim::{Answer, CLASSIC_SOURCE, Control, ControlKind, Extension, PORT, Request, Verdict};
use proto::v1::{EndReason, Failure, FailureKind};
use proto::{BootId, FlowId, HostId, Name, Qos, WireId};

use super::*;

mod ahead;
mod client;
mod ending;
mod fates;
mod finding;
mod flood;
mod host;
mod kernel;
mod liveness;
mod lives;
mod living;
mod meeting;
mod model;
mod moving;
mod open;
mod programs;
mod protected;
mod punching;
mod recovering;
mod results;
mod roaming;
mod server;
mod shared;
mod snapshot;
mod state_table;
mod transitions;
mod wire;
mod world;

pub(super) const A: &str = "10.0.0.1:3359";
pub(super) const B: &str = "10.0.0.2:3359";
/// Somebody else.
pub(super) const STRANGER: &str = "10.0.0.9:3359";
/// Where nothing comes from.
pub(super) const NOBODY: &str = "192.0.2.1:9";
/// Where a socket is that is bound to no address.
pub(super) const ANYWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
/// A classic or scripted caller's cp, or a scripted server's sp.
pub(super) const B_FLOW: &str = "10.0.0.2:45000";

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test's time")]
pub(super) fn origin() -> Instant {
    Instant::now()
}

pub(super) fn settings(listen: &str) -> Settings {
    let listen = addr(listen);
    Settings {
        layer: "net".into(),
        listen,
        host: HostId(u64::from(listen.port()) << 32 | 7),
        boot: BootId(9),
        start: 0,
        cp: (40_000, 40_999),
        sp: (50_000, 50_999),
        shares: None,
        echo: Echo::OnAccept,
        max_flows: 1000,
        max_pending: 100,
        ticket_key: [3; 32],
        limits: Limits::default(),
        dns: None,
        rendezvous: None,
        map_ports: false,
    }
}

pub(super) fn owner() -> Owner {
    Owner { pid: 42, uid: 1000, gid: 1000, command: "test".into() }
}

/// A machine, the time, and what came out of it.
pub(super) struct Bench {
    pub(super) shim: Shim,
    pub(super) now: Instant,
    pub(super) start: Instant,
    /// The kernel opens the accepting side's sockets at once.
    pub(super) opens: bool,
    done: Vec<Output>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(settings(A))
    }

    pub(super) fn with(settings: Settings) -> Self {
        let mut shim = Shim::new(settings, [1; 32]);
        shim.register(origin(), name("here"), None).unwrap();
        shim.add_host(name("echo"), addr(B)).unwrap();
        let now = origin();
        Self { shim, now, start: now, opens: true, done: Vec::new() }
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        self.done.extend(std::iter::from_fn(|| self.shim.poll_output()));
        std::mem::take(&mut self.done)
    }

    pub(super) fn one(&mut self) -> Output {
        let mut outputs = self.outputs();
        assert_eq!(outputs.len(), 1, "{outputs:?}");
        outputs.remove(0)
    }

    /// Goes on to the machine's next deadline; what it wants then.
    pub(super) fn next(&mut self) -> Vec<Output> {
        let (at, reason) = self.shim.poll_timeout().expect("something is awaited");
        assert!(at >= self.now, "{reason} in the past");
        self.now = at;
        self.shim.handle_timeout(at);
        self.outputs()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn ask(&self, flow: u64, to: &str) -> Ask {
        Ask {
            flow: FlowId(flow),
            name: name(to),
            source: "me".into(),
            qos: Qos::raw(),
            timeout: Duration::ZERO,
            data: b"hello".to_vec(),
            owner: owner(),
        }
    }

    /// Up to the first request; it is returned as it was sent.
    pub(super) fn asking(&mut self, ask: Ask) -> (Key, Extension, Vec<u8>) {
        let key = self.shim.flow_alloc(self.now, ask).unwrap();
        let Output::Open { port, watch: true, .. } = self.one() else { panic!("a socket first") };
        self.shim.opened(self.now, key, Ok(SocketAddr::new(addr(A).ip(), port)));
        let Output::SendFlow { to: Some(to), bytes, .. } = self.one() else { panic!("then a request") };
        assert_eq!(to, addr(B));
        let Ok(Request::Extended(_, extension)) = Request::decode(&bytes) else { panic!("an extended one") };
        (key, extension, bytes)
    }

    pub(super) fn answer(&mut self, key: Key, from: &str, bytes: &[u8]) {
        self.shim.handle_datagram(self.now, Via::Flow(key), addr(from), bytes);
    }

    /// A flow to B that its program holds.
    pub(super) fn held(&mut self, flow: u64) -> (Key, WireId, WireId) {
        let (key, extension, _) = self.asking(self.ask(flow, "echo"));
        let theirs = WireId(0x5000 + flow);
        let accepted = answer(extension.client, theirs, Verdict::Accepted).encode(&name("echo"));
        self.answer(key, B_FLOW, &accepted);
        let Output::Connect { .. } = self.one() else { panic!() };
        self.shim.connected(self.now, key, Ok(1472));
        let [Output::Offer { .. }, Output::Allocated { .. }, probe @ ..] = &self.outputs()[..] else { panic!() };
        // The first flow to a host opens the path between the shims.
        if let [probe] = probe {
            assert_eq!(control_of(probe).unwrap().1.kind, ControlKind::Probe);
            self.control_from_b(ControlKind::Alive, theirs, extension.client);
        }
        self.shim.taken(self.now, FlowId(flow));
        assert_eq!(self.shim.row(self.now, FlowId(flow)).unwrap().state, proto::v1::FlowState::Allocated);
        (key, extension.client, theirs)
    }

    /// A classic flow to B that its program holds.
    pub(super) fn held_classic(&mut self, flow: u64) -> Key {
        let (key, ..) = self.asking(self.ask(flow, "echo"));
        self.answer(key, B_FLOW, b"echo");
        self.outputs();
        self.shim.connected(self.now, key, Ok(1472));
        self.outputs();
        self.shim.taken(self.now, FlowId(flow));
        key
    }

    pub(super) fn request(&mut self, from: &str, bytes: &[u8]) {
        self.shim.handle_datagram(self.now, Via::Listen, addr(from), bytes);
        while let Some(output) = self.shim.poll_output() {
            match output {
                Output::Open { key, port, watch: false } if self.opens => {
                    assert!((50_000..=50_999).contains(&port), "in the range for sp");
                    self.shim.opened(self.now, key, Ok(SocketAddr::new(addr(A).ip(), port)));
                }
                Output::Reserve { key } if self.opens => self.shim.opened(self.now, key, Ok(addr(A))),
                output => self.done.push(output),
            }
        }
    }

    pub(super) fn control_from_b(&mut self, kind: ControlKind, sender: WireId, receiver: WireId) {
        let control = Control { kind, host: HostId(2), boot: BootId(2), sender, receiver };
        self.request(B, &control.encode());
    }

    /// Nothing is left behind.
    pub(super) fn assert_empty(&self) {
        self.shim.assert_empty();
    }
}

impl Shim {
    /// Every table is as it was at the start, but for what is remembered for a bounded time.
    pub(super) fn assert_empty(&self) {
        assert!(self.flows.is_empty(), "{:?}", self.flows);
        assert!(self.by_attempt.is_empty(), "{:?}", self.by_attempt);
        assert!(self.movers.is_empty(), "{:?}", self.movers);
        assert!(self.sides.is_empty() && self.searches.is_empty(), "{:?} {:?}", self.sides, self.searches);
        assert!(self.by_peer.is_empty(), "{:?}", self.by_peer);
        assert!(self.pairs.is_empty() && self.catching.is_empty(), "{:?} {:?}", self.pairs, self.catching);
        let left =
            [self.by_id.len(), self.by_wire.len(), self.by_request.len(), self.by_client.len(), self.timers.len()];
        assert_eq!(left, [0; 5]);
        assert!(self.load.is_idle());
        assert!(self.ports.is_idle(), "{:?}", self.ports);
        assert!(self.tally.values().all(|n| *n == 0), "{:?}", self.tally);
    }
}

pub(super) fn answer(client: WireId, server: WireId, verdict: Verdict) -> Answer {
    Answer::Extended {
        host: HostId(2),
        boot: BootId(2),
        client,
        server,
        verdict,
        reason: String::new(),
        data: b"welcome".to_vec(),
        cookie: Vec::new(),
        server_port: None,
    }
}

pub(super) fn extension(client: u64) -> Extension {
    Extension {
        host: HostId(2),
        boot: BootId(2),
        client: WireId(client),
        source: "you".into(),
        qos: Qos::raw(),
        deadline_ms: 5000,
        listen_port: PORT,
        direct: false,
        data: b"hello".to_vec(),
        cookie: Vec::new(),
    }
}

pub(super) fn extended(to: &str, client: u64) -> Vec<u8> {
    Request::Extended(name(to), extension(client)).encode()
}

pub(super) fn control_of(output: &Output) -> Option<(SocketAddr, Control)> {
    match output {
        Output::SendListen { to, bytes } => Control::decode(bytes).ok().map(|control| (*to, control)),
        _ => None,
    }
}

/// The verdict that an output says to a caller for `to`, and where it is sent from.
pub(super) fn verdict_of(output: &Output, to: &str) -> Option<(Verdict, String)> {
    let (Output::SendListen { bytes, .. } | Output::SendFlow { bytes, .. }) = output else { return None };
    match Answer::decode(bytes, &name(to)) {
        Ok(Answer::Extended { verdict, reason, .. }) => Some((verdict, reason)),
        _ => None,
    }
}

//! irmd's machine under any sequence of inputs, in and out of turn: no panic, no spinning timer, bounded tables, exactly
//! one reply for each call that is not cancelled.
#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use identity::{CheckError, Shown};
use irmd::config::Identity;
use irmd::machine::ticket::Ticket;
use irmd::machine::{
    CallId, Caller, ChildId, Command, Effect, IpcpAnswer, IpcpCall, Irm, Judging, Listed, May, Quotas, Reply,
    RulesChange, Settings, Started,
};
use libfuzzer_sys::fuzz_target;
use proto::v1::{self, EndReason, Failure, FailureKind};
use proto::{FlowId, Name, PROTOCOL_VERSION, Token};

const NAMES: [&str; 4] = ["echo", "other", "x", "no name"];
const IPCPS: [&str; 3] = ["udp0", "udp1", "../no"];
const LAYERS: [&str; 3] = ["net", "*", ""];

const PRINT: &str = "SHA256:LHDhK3oGRvkiefQnx7OOczTY5Ti/7ClNEGwYXsRFcmE";
const OTHER: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut program = Program(bytes);
    while let Some(op) = program.more() {
        world.step(op, &mut program);
        world.drain();
    }
    world.end();
});

/// The bytes of an input as choices; zero after their end.
struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn more(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn byte(&mut self) -> u8 {
        self.more().unwrap_or(0)
    }

    fn number(&mut self) -> u32 {
        self.byte().into()
    }

    fn one_of(&mut self, texts: &[&str]) -> String {
        texts[usize::from(self.byte()) % texts.len()].to_owned()
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }
}

struct World {
    irm: Irm,
    now: Instant,
    /// Calls without a reply, and whether they may wait for ever.
    waiting: BTreeMap<CallId, bool>,
    attached: Vec<CallId>,
    last_call: u64,
    asked: Vec<(String, CallId, IpcpCall)>,
    children: Vec<ChildId>,
    /// The system starts and makes nothing, for now.
    exhausted: bool,
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            handoff: "irmd.flow".into(),
            backlog: 4,
            pending: 8,
            accepts: 16,
            names: 6,
            quotas: Quotas { flows: 6, pending: 5, names: 3, accepts: 4, prefix: 5, unlimited: vec![0] },
            flows: 16,
            ..Settings::default()
        };
        let now = Instant::now();
        let mut irm = Irm::new(now, settings);
        irm.begin(now);
        Self {
            irm,
            now,
            waiting: BTreeMap::new(),
            attached: Vec::new(),
            last_call: 0,
            asked: Vec::new(),
            children: Vec::new(),
            exhausted: false,
        }
    }

    fn step(&mut self, op: u8, program: &mut Program<'_>) {
        let now = self.now;
        let flow = FlowId(u64::from(program.byte()) % (self.irm.next_flow() + 1));
        match op % 16 {
            0 => self.irm.lease_opened(process(program)),
            1 | 2 => self.use_flows(program),
            3 => self.answer(flow, program),
            4 | 5 => self.speak_as_ipcp(flow, program),
            6 => self.administrate(flow, program),
            7 => self.administrate_ipcps(program),
            8 => self.cancel(program),
            9 | 10 => self.answer_as_ipcp(program),
            11 => self.end_child(program),
            12 => self.hand_over(flow, program),
            13 => self.irm.lease_closed(1 + program.number() % 4, program.number() % 2, &[flow], program.flag()),
            14 => {
                self.exhausted = program.flag();
                self.irm.handle_timeout(now);
            }
            _ => self.pass(program.byte()),
        }
    }

    fn call(&mut self, caller: Caller, command: Command) {
        self.last_call += 1;
        let call = CallId(self.last_call);
        let endless = matches!(&command, Command::FlowAccept(request) if request.timeout_ms == 0);
        if matches!(command, Command::Attach(_)) {
            self.attached.push(call);
        }
        self.waiting.insert(call, endless);
        self.irm.command(self.now, call, caller, command);
    }

    fn use_flows(&mut self, program: &mut Program<'_>) {
        let caller = caller(program);
        let name = program.one_of(&NAMES);
        let timeout_ms = program.number() * 100;
        let command = match program.byte() % 6 {
            4 => Command::Certify(v1::CertifyRequest {
                version: PROTOCOL_VERSION,
                name,
                serving: program.flag(),
                public_key: Vec::new(),
            }),
            5 => Command::Judge(Box::new(judging(self.irm.next_flow(), &name, program))),
            0 => Command::Serve(v1::ServeRequest {
                version: PROTOCOL_VERSION,
                name,
                create: program.flag(),
                register: program.flag(),
                layers: vec![program.one_of(&LAYERS)],
            }),
            1 => Command::FlowAccept(v1::FlowAcceptRequest { name, ask: program.flag(), timeout_ms }),
            2 => Command::Unserve(v1::UnserveRequest { name }),
            _ => {
                let request = v1::FlowAllocRequest {
                    version: PROTOCOL_VERSION,
                    name,
                    layer: program.one_of(&["", "net", "local", "moon"]),
                    timeout_ms,
                    data: vec![1; usize::from(program.byte()) * 3],
                    ..Default::default()
                };
                let token =
                    |which| Token([self.last_call as u8, which, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
                Command::FlowAlloc(request, [token(1), token(2)])
            }
        };
        self.call(caller, command);
    }

    fn answer(&mut self, flow: FlowId, program: &mut Program<'_>) {
        let caller = caller(program);
        let request = v1::FlowAnswerRequest {
            flow_id: flow.0,
            accept: program.flag(),
            reason: "full".into(),
            data: vec![2; usize::from(program.byte()) * 3],
        };
        self.call(caller, Command::FlowAnswer(request));
    }

    fn speak_as_ipcp(&mut self, flow: FlowId, program: &mut Program<'_>) {
        let ipcp = program.one_of(&IPCPS);
        let command = match program.byte() % 4 {
            0 => Command::Attach(Box::new(v1::AttachRequest {
                version: PROTOCOL_VERSION,
                name: ipcp,
                r#type: "udp".into(),
                layer: program.one_of(&["", "net"]),
                ..Default::default()
            })),
            1 => Command::FlowEnded(v1::FlowEndedRequest {
                ipcp,
                flow_id: flow.0,
                reason: EndReason::PeerDied.into(),
                ..Default::default()
            }),
            _ => Command::FlowReqArr(v1::FlowReqArrRequest {
                ipcp,
                name: program.one_of(&NAMES),
                layer: program.one_of(&LAYERS),
                deadline_ms: program.number() * 100,
                token: vec![9; 16],
                ..Default::default()
            }),
        };
        self.call(Caller { pid: 100, ..Caller::default() }, command);
    }

    fn administrate(&mut self, flow: FlowId, program: &mut Program<'_>) {
        let name = program.one_of(&NAMES);
        let layer = program.one_of(&LAYERS);
        let path = program.one_of(&["/bin/server", "relative"]);
        let program_bound = v1::BoundProgram {
            path: path.clone(),
            args: vec!["-x".into()],
            auto_start: program.flag(),
            ..Default::default()
        };
        let pid = 1 + program.number() % 4;
        let rules = RulesChange { said: rules(program), ..Default::default() };
        let who = Identity::try_from(program.one_of(&["any", "ca:/x", PRINT, OTHER])).expect("an identity");
        let pattern = name.clone() + program.one_of(&["", "*"]).as_str();
        let command = match program.byte() % 22 {
            18 => Command::IdentityTrust { name: pattern, who, wall: 0 },
            19 => Command::IdentityForget(pattern, program.flag().then_some(who)),
            20 => Command::IdentityAllow { name: pattern, who: program.flag().then_some(who), remove: program.flag() },
            21 => Command::IdentityList,
            17 => Command::Shutdown(v1::ShutdownRequest { drain_ms: program.number(), end_flows: program.flag() }),
            0 => Command::NameCreate(
                v1::NameCreateRequest { name, policy: program.byte().into(), ..Default::default() },
                rules,
            ),
            1 => Command::NameDestroy(v1::NameDestroyRequest { name }),
            2 => Command::NameRegister(v1::NameRegisterRequest { name, layer }),
            3 => Command::NameUnregister(v1::NameUnregisterRequest { name, layer }),
            4 => Command::BindProgram(v1::BindProgramRequest { name, program: Some(program_bound) }),
            5 => Command::BindProcess(v1::BindProcessRequest { name, pid }),
            6 => Command::UnbindProgram(v1::UnbindProgramRequest { name, path }),
            7 => Command::UnbindProcess(v1::UnbindProcessRequest { name, pid }),
            8 => Command::FlowDealloc(v1::FlowDeallocRequest { flow_id: flow.0 }),
            9 => Command::FlowShow(v1::FlowShowRequest { flow_id: flow.0 }),
            10 => Command::FlowList(Listed {
                ended: program.flag(),
                told_by: if program.flag() { vec!["udp0".to_owned()] } else { Vec::new() },
            }),
            11 => Command::NameList,
            12 => Command::Status,
            13 => Command::NameRules(name + program.one_of(&["", "*"]).as_str(), rules),
            14 => Command::RuleList,
            15 => Command::NameMay(May { name, user: None, address: program.one_of(&["", "10.0.0.9", "nowhere"]) }),
            _ => Command::ConfigExport,
        };
        self.call(Caller { uid: program.number() % 2, ..Caller::default() }, command);
    }

    fn administrate_ipcps(&mut self, program: &mut Program<'_>) {
        let name = program.one_of(&IPCPS);
        let no_restart = program.flag();
        let host = v1::StaticHost { name: program.one_of(&NAMES), address: program.one_of(&["10.0.0.2", "nonsense"]) };
        let command = match program.byte() % 6 {
            0 => Command::IpcpCreate(v1::IpcpCreateRequest { name, r#type: "udp".into(), no_restart }),
            1 => Command::IpcpBootstrap(Box::new(v1::IpcpBootstrapRequest {
                name,
                r#type: "udp".into(),
                layer: program.one_of(&LAYERS),
                udp: Some(v1::UdpConfig { ip: "10.0.0.1".into(), hosts: vec![host], ..Default::default() }),
                no_restart,
            })),
            2 => Command::IpcpDestroy(v1::IpcpDestroyRequest { name }),
            3 => Command::IpcpList,
            4 => Command::HostAdd(v1::HostAddRequest { ipcp: name, host: Some(host) }),
            _ => Command::HostRemove(v1::HostRemoveRequest { ipcp: name, name: host.name }),
        };
        self.call(Caller::default(), command);
    }

    fn cancel(&mut self, program: &mut Program<'_>) {
        let choice = usize::from(program.byte());
        let call = if program.flag() && !self.attached.is_empty() {
            self.attached.swap_remove(choice % self.attached.len())
        } else {
            match self.waiting.keys().rev().nth(choice % 8) {
                Some(call) => *call,
                None => return,
            }
        };
        self.waiting.remove(&call);
        self.irm.cancelled(self.now, call);
    }

    fn answer_as_ipcp(&mut self, program: &mut Program<'_>) {
        if self.asked.is_empty() {
            return;
        }
        let (ipcp, attach, what) = self.asked.remove(usize::from(program.byte()) % self.asked.len());
        let answer = match (program.byte() % 4, &what) {
            (0, _) => Err(Failure::new(FailureKind::UnknownName, "no")),
            (1, _) => Err(Failure::new(FailureKind::IpcpDown, "down")),
            (_, IpcpCall::Bootstrap(_)) => Ok(IpcpAnswer::Address("10.0.0.1:3359".into())),
            (_, IpcpCall::Alloc(_)) => Ok(IpcpAnswer::Allocated(v1::AllocReply {
                token: vec![5; 16],
                peer_address: "10.0.0.2:40000".into(),
                data: Vec::new(),
                classic: program.flag(),
                ..Default::default()
            })),
            (_, IpcpCall::Flows) => {
                let row = v1::FlowInfo { name: "echo".into(), ..Default::default() };
                let row = v1::FlowInfo { flow_id: u64::from(program.byte()), ..row };
                Ok(IpcpAnswer::Flows(vec![row]))
            }
            _ => Ok(IpcpAnswer::Done),
        };
        self.irm.ipcp_answered(self.now, &ipcp, attach, what, answer);
    }

    fn end_child(&mut self, program: &mut Program<'_>) {
        if !self.children.is_empty() {
            let child = self.children.swap_remove(usize::from(program.byte()) % self.children.len());
            self.irm.child_exited(self.now, child, "exited with status 1");
        }
    }

    fn hand_over(&mut self, flow: FlowId, program: &mut Program<'_>) {
        match program.byte() % 6 {
            0 => self.irm.taken(flow),
            1 => self.irm.not_taken(flow),
            2 => self.irm.suspected(flow),
            3 => self.bring_back(flow, program),
            _ => self.irm.released(flow),
        }
    }

    /// With a ticket of nobody's, or of one who has the key.
    fn bring_back(&mut self, flow: FlowId, program: &mut Program<'_>) {
        let (caller, over) = (caller(program), program.flag());
        if program.flag() {
            let ticket: Vec<u8> = (0..program.byte()).map(|_| program.byte()).collect();
            assert!(self.irm.adopt(self.now, caller, &ticket, 0, over).is_err(), "a forged ticket");
            return;
        }
        let Ok(name) = Name::new(&program.one_of(&NAMES)) else { return };
        let ticket = Ticket {
            row: flow,
            peer: FlowId(u64::from(program.byte())),
            accepting: program.flag(),
            uid: program.number() % 2,
            cookie: u64::from(program.byte() % 2),
            born: u64::from(program.number()),
            timeouts: [program.number(), 0],
            cube: v1::Cube::Stream,
            name,
            source: program.one_of(&NAMES),
        };
        let _ = self.irm.adopt(self.now, caller, &ticket.seal(&[0; 32]), 0, over);
    }

    fn pass(&mut self, choice: u8) {
        let next = self.irm.poll_timeout();
        self.now = match (choice % 3, next) {
            (0, Some(at)) => self.now.max(at),
            (1, _) => self.now + Duration::from_millis(u64::from(choice)),
            _ => self.now + Duration::from_secs(u64::from(choice) / 4),
        };
        self.irm.handle_timeout(self.now);
    }

    fn drain(&mut self) {
        let mut effects = 0;
        while let Some(effect) = self.irm.poll_effect() {
            effects += 1;
            assert!(effects < 2_000, "one input, endless effects");
            self.perform(effect);
        }
    }

    /// Every question to an IPCP is answered, by its owner if not by itself.
    fn fail_asked(&mut self) {
        for (ipcp, attach, what) in std::mem::take(&mut self.asked) {
            let answer = Err(Failure::new(FailureKind::IpcpDown, "the IPCP is gone"));
            self.irm.ipcp_answered(self.now, &ipcp, attach, what, answer);
            self.drain();
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(call, reply) => {
                assert!(self.waiting.remove(&call).is_some(), "a second reply, or one to a cancelled call: {reply:?}");
                if let Reply::Failed(failure) = reply {
                    assert!(!failure.message.is_empty() && failure.kind() != FailureKind::Internal, "{failure:?}");
                }
            }
            Effect::OpenLocal { row, .. } => {
                let made =
                    if self.exhausted { Err(Failure::new(FailureKind::Exhausted, "no descriptor")) } else { Ok(()) };
                self.irm.local_opened(row, made);
            }
            Effect::Call { ipcp, attach, what } => self.asked.push((ipcp, attach, what)),
            Effect::StartIpcp { ipcp, child } => {
                let started = if self.exhausted {
                    Started::Failed("no memory".into())
                } else {
                    self.children.push(child);
                    Started::Spawned(77)
                };
                self.irm.ipcp_started(self.now, &ipcp, child, started);
            }
            Effect::StartProgram { child, .. } => {
                let started = if self.exhausted { Err("no memory".into()) } else { Ok(78) };
                if started.is_ok() {
                    self.children.push(child);
                }
                self.irm.program_started(self.now, child, started);
            }
            _ => {}
        }
    }

    /// All IPCPs are gone and a minute and more passes: only calls that may wait for ever still do.
    fn end(&mut self) {
        for call in std::mem::take(&mut self.attached) {
            self.waiting.remove(&call);
            self.irm.cancelled(self.now, call);
        }
        self.exhausted = true;
        self.drain();
        self.fail_asked();
        let until = self.now + Duration::from_secs(130);
        let mut turns = 0;
        while let Some(at) = self.irm.poll_timeout().filter(|at| *at <= until) {
            turns += 1;
            assert!(turns < 20_000, "the timer spins");
            self.now = self.now.max(at);
            self.irm.handle_timeout(self.now);
            self.drain();
            self.fail_asked();
        }
        let late: Vec<_> = self.waiting.iter().filter(|(_, endless)| !**endless).collect();
        assert!(late.is_empty(), "calls without a reply: {late:?}");
    }
}

fn caller(program: &mut Program<'_>) -> Caller {
    let pid = 1 + program.number() % 4;
    Caller { pid, uid: pid % 2, ..Caller::default() }
}

/// Rules, some of them nonsense.
fn rules(program: &mut Program<'_>) -> v1::NameRules {
    let mut list = |words: &[&str]| -> Vec<String> { (0..program.byte() % 3).map(|_| program.one_of(words)).collect() };
    v1::NameRules {
        serve: list(&["any", "none", "owner", "1", "@0", "default", "no body"]),
        allow_local: list(&["any", "none", "owner", "0", "@1", "default"]),
        allow_remote: list(&["any", "none", "10.0.0.0/8", "10.0.0.9", "10.0.0.1/8", "default"]),
        deny_remote: list(&["any", "none", "10.0.0.0/16", "fd00::/8", "default", "x"]),
        identities: list(&["any", "none", "ca:/x", "default", PRINT]),
    }
}

/// What a peer showed, of some flow.
fn judging(flows: u64, name: &str, program: &mut Program<'_>) -> Judging {
    let host = program.one_of(&[PRINT, OTHER]).parse().expect("a fingerprint");
    let name = Name::new(name).ok().filter(|_| program.flag());
    let shown = if program.byte() % 4 == 0 { Err(CheckError::NoChain) } else { Ok(Shown { host, name }) };
    Judging { flow: FlowId(u64::from(program.byte()) % (flows + 1)), chain: Vec::new(), shown, wall: 0 }
}

fn process(program: &mut Program<'_>) -> v1::Process {
    let pid = 1 + program.number() % 4;
    v1::Process { pid, uid: pid % 2, gid: 0, command: "fuzz".into() }
}

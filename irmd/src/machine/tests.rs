//! The machine alone, in a world where everything takes no time.
#![expect(clippy::disallowed_methods, reason = "a test draws one moment to count from")]

mod addresses;
mod admin;
mod demand;
mod flows;
mod history;
mod identities;
mod ipcps;
mod outlive;
mod quota;
mod random;
mod rules;

mod who;

use super::*;
use proto::Token;
use proto::v1::{EndReason, FailureKind};

/// A machine, and what came out of it.
pub(super) struct World {
    pub(super) irm: Irm,
    pub(super) now: Instant,
    /// Replies, by call.
    pub(super) replies: HashMap<CallId, Reply>,
    /// All other effects but log lines, in order.
    pub(super) done: Vec<Effect>,
    /// The next pair cannot be made.
    pub(super) no_pairs: bool,
    next_call: u64,
}

pub(super) const ROOT: Caller = Caller { pid: 1, uid: 0, gid: 0, groups: None };

pub(super) fn user(pid: u32) -> Caller {
    Caller { pid, uid: 1000, gid: 1000, groups: None }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Settings { uid: 500, handoff: "irmd.flow".into(), ..Settings::default() })
    }

    pub(super) fn with(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            irm: Irm::new(now, settings),
            now,
            replies: HashMap::new(),
            done: Vec::new(),
            no_pairs: false,
            next_call: 1,
        }
    }

    /// Does what the machine says, and what is due.
    pub(super) fn settle(&mut self) {
        loop {
            self.effects();
            if self.irm.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
            self.irm.handle_timeout(self.now);
        }
    }

    fn effects(&mut self) {
        while let Some(effect) = self.irm.poll_effect() {
            match effect {
                Effect::Reply(call, reply) => {
                    let before = self.replies.insert(call, reply);
                    assert!(before.is_none(), "{call:?} is answered twice, first with {before:?}");
                }
                Effect::OpenLocal { row, ends } => {
                    self.done.push(Effect::OpenLocal { row, ends });
                    let made = if self.no_pairs { Err(fail(FailureKind::Exhausted, "no pairs")) } else { Ok(()) };
                    self.irm.local_opened(row, made);
                }
                Effect::Log(..) | Effect::FlowLog(..) => {}
                other => self.done.push(other),
            }
        }
    }

    pub(super) fn call(&mut self, caller: Caller, command: Command) -> CallId {
        let call = CallId(self.next_call);
        self.next_call += 1;
        self.irm.command(self.now, call, caller, command);
        self.settle();
        call
    }

    /// A call that must have been answered.
    pub(super) fn answer(&mut self, caller: Caller, command: Command) -> Reply {
        let call = self.call(caller, command);
        self.reply(call).unwrap_or_else(|| panic!("no answer yet"))
    }

    pub(super) fn reply(&mut self, call: CallId) -> Option<Reply> {
        self.replies.remove(&call)
    }

    #[track_caller]
    pub(super) fn handle(&mut self, call: CallId) -> v1::FlowHandle {
        match self.reply(call) {
            Some(Reply::Handle(handle)) => handle,
            other => panic!("no handle but {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn failure(&mut self, call: CallId) -> Failure {
        match self.reply(call) {
            Some(Reply::Failed(failure)) => failure,
            other => panic!("no failure but {other:?}"),
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.irm.handle_timeout(self.now);
        self.settle();
    }

    pub(super) fn cancel(&mut self, call: CallId) {
        self.irm.cancelled(self.now, call);
        self.settle();
    }

    pub(super) fn lease(&mut self, caller: Caller) {
        let Caller { pid, uid, gid, .. } = caller;
        self.irm.lease_opened(v1::Process { pid, uid, gid, command: format!("program-{pid}") });
        self.settle();
    }

    pub(super) fn dies(&mut self, pid: u32, flows: &[FlowId]) {
        let uid = self.irm.processes.get(pid).map_or(0, |process| process.process.uid);
        self.irm.lease_closed(pid, uid, flows, true);
        self.settle();
    }

    /// A process with a lease that serves `name`, registered everywhere.
    pub(super) fn server(&mut self, pid: u32, name: &str) {
        self.server_as(user(pid), name);
    }

    pub(super) fn server_as(&mut self, caller: Caller, name: &str) {
        self.lease(caller.clone());
        let reply = self.answer(caller, serve(name));
        assert!(matches!(reply, Reply::Served(_)), "{reply:?}");
    }

    pub(super) fn alloc(&mut self, pid: u32, name: &str) -> CallId {
        self.call(user(pid), alloc(name))
    }

    pub(super) fn accept(&mut self, pid: u32, name: &str, ask: bool) -> CallId {
        let request = v1::FlowAcceptRequest { name: name.into(), ask, timeout_ms: 0 };
        self.call(user(pid), Command::FlowAccept(request))
    }

    /// The calls to IPCPs since the last time.
    pub(super) fn asked(&mut self) -> Vec<(String, CallId, IpcpCall)> {
        let (asked, rest) = std::mem::take(&mut self.done).into_iter().partition(|e| matches!(e, Effect::Call { .. }));
        self.done = rest;
        let asked: Vec<Effect> = asked;
        asked
            .into_iter()
            .filter_map(|e| if let Effect::Call { ipcp, attach, what } = e { Some((ipcp, attach, what)) } else { None })
            .collect()
    }

    /// An IPCP that was started by hand, in its layer.
    pub(super) fn ipcp(&mut self, name: &str, layer: &str) -> CallId {
        let request = v1::AttachRequest {
            version: proto::PROTOCOL_VERSION,
            name: name.into(),
            r#type: "udp".into(),
            socket: format!("{name}.sock"),
            handoff: format!("{name}.flow"),
            layer: layer.into(),
            config: (!layer.is_empty()).then(v1::UdpConfig::default),
            address: "10.0.0.1:3359".into(),
            ..v1::AttachRequest::default()
        };
        let call = self.call(Caller { pid: 900, ..ROOT }, Command::Attach(request.into()));
        assert!(matches!(self.reply(call), Some(Reply::Done)));
        call
    }

    /// Everything an IPCP was asked is answered well.
    pub(super) fn obey(&mut self) -> Vec<IpcpCall> {
        let mut all = Vec::new();
        loop {
            let asked = self.asked();
            if asked.is_empty() {
                return all;
            }
            for (ipcp, attach, what) in asked {
                let answer = match &what {
                    IpcpCall::Bootstrap(_) => IpcpAnswer::Address("10.0.0.1:3359".into()),
                    IpcpCall::Flows => IpcpAnswer::Flows(Vec::new()),
                    IpcpCall::Alloc(request) => IpcpAnswer::Allocated(v1::AllocReply {
                        token: vec![9; 16],
                        peer_address: "10.0.0.2:40000".into(),
                        data: request.data.iter().rev().copied().collect(),
                        classic: false,
                        ..v1::AllocReply::default()
                    }),
                    _ => IpcpAnswer::Done,
                };
                all.push(what.clone());
                self.irm.ipcp_answered(self.now, &ipcp, attach, what, Ok(answer));
                self.settle();
            }
        }
    }
}

pub(super) fn serve(name: &str) -> Command {
    Command::Serve(v1::ServeRequest {
        version: proto::PROTOCOL_VERSION,
        name: name.into(),
        create: true,
        register: true,
        layers: Vec::new(),
    })
}

pub(super) fn alloc_request(name: &str) -> v1::FlowAllocRequest {
    v1::FlowAllocRequest {
        version: proto::PROTOCOL_VERSION,
        name: name.into(),
        source_name: "me".into(),
        data: b"hello".to_vec(),
        ..v1::FlowAllocRequest::default()
    }
}

pub(super) fn alloc(name: &str) -> Command {
    Command::FlowAlloc(alloc_request(name), [Token([1; 16]), Token([2; 16])])
}

pub(super) fn arrival(name: &str, layer: &str) -> Command {
    Command::FlowReqArr(v1::FlowReqArrRequest {
        ipcp: "udp0".into(),
        name: name.into(),
        source_name: "John Day".into(),
        token: vec![3; 16],
        handoff: "udp0.flow".into(),
        deadline_ms: 2_000,
        data: b"hello".to_vec(),
        peer_address: "10.0.0.9:5000".into(),
        classic: true,
        layer: layer.into(),
        ..v1::FlowReqArrRequest::default()
    })
}

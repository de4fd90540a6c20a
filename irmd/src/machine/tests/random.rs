//! Random sequences of inputs against what must always hold.

use super::*;
use crate::machine::ticket::Ticket;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

#[derive(Clone, Debug)]
enum Step {
    Lease(u32),
    Die(u32),
    Serve(u32, usize),
    Unserve(u32, usize),
    Accept(u32, usize, bool, bool),
    Alloc(u32, usize),
    Answer(usize, bool),
    Arrive(usize),
    Cancel(usize),
    Attach,
    Detach,
    Obey(bool),
    Bind(usize),
    Exit(u64),
    Destroy(usize),
    Release(u64),
    Taken(u64),
    NotTaken(u64),
    Dealloc(u64),
    NoPairs(bool),
    Pass(u64),
    Restart,
    BringBack(usize),
    Forge(usize, usize),
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn step() -> impl Strategy<Value = Step> {
    let (pid, name, call) = (10..14u32, 0..NAMES.len(), 0..64usize);
    prop_oneof![
        1 => pid.clone().prop_map(Step::Lease),
        1 => pid.clone().prop_map(Step::Die),
        6 => (pid.clone(), name.clone()).prop_map(|(p, n)| Step::Serve(p, n)),
        1 => (pid.clone(), name.clone()).prop_map(|(p, n)| Step::Unserve(p, n)),
        9 => (pid.clone(), name.clone(), any::<bool>(), any::<bool>()).prop_map(|(p, n, a, t)| Step::Accept(p, n, a, t)),
        9 => (pid, name.clone()).prop_map(|(p, n)| Step::Alloc(p, n)),
        3 => (call.clone(), any::<bool>()).prop_map(|(c, yes)| Step::Answer(c, yes)),
        3 => name.clone().prop_map(Step::Arrive),
        2 => call.prop_map(Step::Cancel),
        1 => Just(Step::Attach),
        1 => Just(Step::Detach),
        3 => any::<bool>().prop_map(Step::Obey),
        1 => name.clone().prop_map(Step::Bind),
        1 => (1..6u64).prop_map(Step::Exit),
        1 => name.prop_map(Step::Destroy),
        2 => (1..40u64).prop_map(Step::Release),
        1 => (1..40u64).prop_map(Step::Taken),
        1 => (1..40u64).prop_map(Step::NotTaken),
        1 => (1..40u64).prop_map(Step::Dealloc),
        1 => any::<bool>().prop_map(Step::NoPairs),
        3 => (0..3_000u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        4 => (0..64usize).prop_map(Step::BringBack),
        1 => (0..64usize, 0..400usize).prop_map(|(n, at)| Step::Forge(n, at)),
    ]
}

/// A world with the calls that are open.
struct Run {
    world: World,
    open: HashSet<CallId>,
    offered: Vec<(u32, u64)>,
    attach: Option<CallId>,
    /// What programs hold of local flows, whatever irmd knows of it.
    held: BTreeMap<FlowId, Held>,
}

/// An end of a local flow, in its program's hands.
#[derive(Clone, Debug)]
struct Held {
    ticket: Ticket,
    pid: u32,
    /// The other end's id.
    other: FlowId,
    /// The pair was shut down: nobody is at the other end any more.
    over: bool,
    /// The irmd that runs has it.
    known: bool,
}

const KEY: [u8; 32] = [0; 32];

impl Run {
    fn call(&mut self, caller: Caller, command: Command) -> CallId {
        let call = self.world.call(caller, command);
        self.open.insert(call);
        call
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Lease(_) | Step::Die(_) | Step::Attach | Step::Detach | Step::Exit(_) | Step::Obey(_) => {
                self.lives(step);
            }
            Step::Taken(end) => self.world.irm.taken(FlowId(end)),
            Step::Release(end) => self.world.irm.released(FlowId(end)),
            Step::NotTaken(end) => self.world.irm.not_taken(FlowId(end)),
            Step::NoPairs(no) => self.world.no_pairs = no,
            Step::Pass(ms) => self.world.pass(Duration::from_millis(ms)),
            Step::Restart => self.restart(),
            Step::BringBack(index) => self.bring_back(index),
            Step::Forge(index, at) => self.forge(index, at),
            step => self.calls(step),
        }
        self.world.settle();
        self.collect();
        self.check();
    }

    /// irmd dies, with all calls and attachments, and another one starts.
    fn restart(&mut self) {
        let first_flow = self.world.irm.next_flow();
        let settings = Settings { first_flow, restarted: true, ..self.world.irm.settings.clone() };
        self.world.irm = Irm::new(self.world.now, settings);
        self.world.done.clear();
        self.open.clear();
        self.offered.clear();
        self.attach = None;
        self.held.values_mut().for_each(|held| held.known = false);
    }

    /// A program brings an end back that the irmd of now has not: it is the flow that it was.
    fn bring_back(&mut self, index: usize) {
        let missing: Vec<FlowId> = self.held.iter().filter(|(_, held)| !held.known).map(|(end, _)| *end).collect();
        let Some(end) = missing.get(index % missing.len().max(1)).copied() else { return };
        let Held { ticket, pid, other, over, .. } = self.held[&end].clone();
        if self.world.irm.processes.get(pid).is_none() {
            self.world.lease(user(pid));
        }
        let sealed = ticket.seal(&KEY);
        // Only as long as the other's program lives is there anybody.
        let over = over || !self.held.contains_key(&other);
        let known_before = self.world.irm.flows.row(end).is_some();
        let adopted = self.world.irm.adopt(self.world.now, user(pid), &sealed, ticket.cookie, over);
        match adopted {
            Ok(Adopted { row: Some(row), .. }) => {
                let irm = &self.world.irm;
                assert_eq!((irm.flows.row(end), row), (Some(row), ticket.row));
                let flow = irm.flows.get(row).unwrap();
                assert_eq!((&flow.name, &flow.source), (&ticket.name, &ticket.source));
                assert!(known_before || !over, "a flow that is over is listed: {flow:?}");
                self.held.get_mut(&end).unwrap().known = true;
                // Once is enough.
                let again = self.world.irm.adopt(self.world.now, user(pid), &sealed, ticket.cookie, over);
                assert_eq!(again.unwrap_err().kind(), FailureKind::AlreadyExists);
            }
            Ok(Adopted { row: None, .. }) => {
                assert!(over && !known_before, "{ticket:?}");
                self.held.remove(&end);
            }
            Err(failure) => panic!("{failure}: {ticket:?}"),
        }
    }

    /// What is not as it was sealed changes nothing, whoever shows it.
    fn forge(&mut self, index: usize, at: usize) {
        let Some((_, held)) = self.held.iter().nth(index % self.held.len().max(1)) else { return };
        let (ticket, pid) = (held.ticket.clone(), held.pid);
        let good = ticket.seal(&KEY);
        let mut forged = good.clone();
        forged[at % good.len()] ^= 1 << (index % 8);
        let flows = self.world.irm.flows.len();
        let stranger = Caller { uid: 1001, ..user(pid) };
        let attempts = [
            (user(pid), forged, ticket.cookie),
            (stranger, good.clone(), ticket.cookie),
            (user(pid), good, ticket.cookie + 1),
        ];
        for (caller, sealed, cookie) in attempts {
            let refused = self.world.irm.adopt(self.world.now, caller, &sealed, cookie, false).unwrap_err();
            assert_eq!(refused.kind(), FailureKind::NotPermitted);
        }
        assert_eq!(self.world.irm.flows.len(), flows);
    }

    /// What became of pairs of sockets.
    fn follow_pairs(&mut self) {
        for effect in std::mem::take(&mut self.world.done) {
            match effect {
                Effect::OpenLocal { ends, .. } if !self.world.no_pairs => {
                    let [asking, accepting] = ends.each_ref().map(|end| end.flow);
                    for (end, other) in ends.into_iter().zip([accepting, asking]) {
                        let ticket = Ticket { cookie: end.flow.0 << 8, ..end.ticket };
                        let held = Held { ticket, pid: end.pid, other, over: false, known: true };
                        assert!(self.held.insert(end.flow, held).is_none(), "{} is given twice", end.flow);
                    }
                }
                Effect::OpenLocal { .. } => {}
                Effect::CloseLocal { row, .. } => {
                    self.held.values_mut().filter(|held| held.ticket.row == row).for_each(|held| held.over = true);
                    // Who knows it from irmd lets go.
                    self.held.retain(|_, held| !(held.over && held.known));
                }
                other => self.world.done.push(other),
            }
        }
    }

    /// Processes come and go, IPCPs answer.
    fn lives(&mut self, step: Step) {
        match step {
            Step::Lease(pid) if self.world.irm.processes.get(pid).is_none() => self.world.lease(user(pid)),
            Step::Die(pid) => {
                let irm = &self.world.irm;
                let held: Vec<FlowId> = (1..irm.next_flow())
                    .map(FlowId)
                    .filter(|end| irm.flows.row(*end).is_some_and(|row| row == *end))
                    .filter(|row| irm.flows.get(*row).and_then(flow::Flow::caller).is_some_and(|p| p.pid == pid))
                    .collect();
                self.world.dies(pid, &held);
                self.held.retain(|_, held| held.pid != pid);
            }
            Step::Attach if self.attach.is_none() => self.attach = Some(self.world.ipcp("udp0", "net")),
            Step::Detach => {
                if let Some(attach) = self.attach.take() {
                    self.world.cancel(attach);
                }
            }
            Step::Exit(child) => {
                self.world.irm.child_exited(self.world.now, ChildId(child), "exited with status 1");
            }
            Step::Obey(true) => drop(self.world.obey()),
            Step::Obey(false) => {
                for (ipcp, attach, what) in self.world.asked() {
                    let failure = fail(FailureKind::UnknownName, "no");
                    self.world.irm.ipcp_answered(self.world.now, &ipcp, attach, what, Err(failure));
                    self.world.settle();
                }
            }
            _ => {}
        }
    }

    /// Somebody asks something, or no longer waits.
    fn calls(&mut self, step: Step) {
        let name = |n: usize| NAMES[n];
        match step {
            Step::Serve(pid, n) => {
                // As libflow does.
                if self.world.irm.processes.get(pid).is_none() {
                    self.world.lease(user(pid));
                }
                self.call(user(pid), serve(name(n)));
            }
            Step::Unserve(pid, n) => {
                self.call(user(pid), Command::Unserve(v1::UnserveRequest { name: name(n).into() }));
            }
            Step::Accept(pid, n, ask, timed) => {
                let request =
                    v1::FlowAcceptRequest { name: name(n).into(), ask, timeout_ms: if timed { 700 } else { 0 } };
                self.call(user(pid), Command::FlowAccept(request));
            }
            Step::Alloc(pid, n) => drop(self.call(user(pid), alloc(name(n)))),
            Step::Answer(index, accept) if !self.offered.is_empty() => {
                let (pid, flow_id) = self.offered[index % self.offered.len()];
                let request = v1::FlowAnswerRequest { flow_id, accept, ..v1::FlowAnswerRequest::default() };
                self.call(user(pid), Command::FlowAnswer(request));
            }
            Step::Arrive(n) => drop(self.call(ROOT, arrival(name(n), "net"))),
            Step::Cancel(index) => {
                let mut open: Vec<CallId> = self.open.iter().copied().collect();
                open.sort_unstable();
                if let Some(call) = open.get(index % open.len().max(1)) {
                    self.open.remove(call);
                    self.world.cancel(*call);
                }
            }
            Step::Bind(n) => {
                let program = v1::BoundProgram { path: "/bin/x".into(), auto_start: true, ..Default::default() };
                let request = v1::BindProgramRequest { name: name(n).into(), program: Some(program) };
                self.call(ROOT, Command::BindProgram(request));
            }
            Step::Destroy(n) => {
                self.call(ROOT, Command::NameDestroy(v1::NameDestroyRequest { name: name(n).into() }));
            }
            Step::Dealloc(flow_id) => {
                self.call(ROOT, Command::FlowDealloc(v1::FlowDeallocRequest { flow_id }));
            }
            _ => {}
        }
    }

    /// Takes replies in; a reply to a call that is not open would be a second one.
    fn collect(&mut self) {
        self.follow_pairs();
        for (call, reply) in std::mem::take(&mut self.world.replies) {
            assert!(self.open.remove(&call), "{call:?} is answered though nobody waits: {reply:?}");
            if let Reply::Handle(handle) = reply {
                let row = self.world.irm.flows.row(FlowId(handle.flow_id));
                if let Some(flow::Stage::Offered { to, .. }) =
                    row.and_then(|row| self.world.irm.flows.get(row)).map(|flow| &flow.stage)
                {
                    self.offered.push((to.pid, handle.flow_id));
                }
            }
        }
    }

    fn check(&self) {
        let irm = &self.world.irm;
        let parked: HashSet<CallId> =
            irm.calls.iter().filter(|(_, p)| !matches!(p, Parked::Attach(_))).map(|(call, _)| *call).collect();
        assert_eq!(parked, self.open, "every open call is parked, and none else");
        let waiting: usize = irm.names.iter().map(|(_, e)| e.accepting()).sum();
        let accepts = irm.calls.values().filter(|p| matches!(p, Parked::Accept { .. })).count();
        assert_eq!((waiting, accepts), (irm.accepting, irm.accepting));
        let pending = irm.flows.iter().filter(|f| f.stage.kind() != transitions::Kind::Allocated).count();
        assert_eq!(pending, irm.flows.pending());
        for flow in irm.flows.iter() {
            match flow.stage.call() {
                Some(call) => assert!(self.open.contains(&call), "{flow:?} waits for nobody"),
                None => assert!(flow.stage.kind() >= transitions::Kind::Abandoned),
            }
            let queued = irm.names.get(flow.name.as_str()).is_some_and(|e| e.backlog.contains(&flow.id));
            assert_eq!(queued, flow.stage.kind() == transitions::Kind::Waiting, "{flow:?}");
            assert_ne!(flow.stage.kind(), transitions::Kind::Opening, "a pair is made at once");
        }
        for (name, entry) in irm.names.iter() {
            assert!(
                entry.backlog.is_empty() || entry.accepting() == 0,
                "{name}: a flow and an accept wait side by side"
            );
        }
        assert!(irm.timers.len() <= irm.flows.len() + irm.accepting + irm.names.len() + 2 * irm.ipcps.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_call_is_answered_once_and_every_flow_ends(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let world = World::new();
        let mut run = Run { world, open: HashSet::new(), offered: Vec::new(), attach: None, held: BTreeMap::new() };
        for step in steps {
            run.apply(step);
        }
        // Everybody leaves: nothing may be left.
        for pid in 10..14 {
            run.apply(Step::Die(pid));
        }
        run.apply(Step::Detach);
        run.apply(Step::Pass(120_000));
        let id = run.world.irm.next_flow();
        for end in 1..id {
            run.apply(Step::Release(end));
            run.world.irm.not_taken(FlowId(end));
        }
        for n in 0..NAMES.len() {
            run.apply(Step::Destroy(n));
        }
        if run.world.irm.ipcps.get("udp0").is_some() {
            run.call(ROOT, Command::IpcpDestroy(v1::IpcpDestroyRequest { name: "udp0".into() }));
            run.collect();
        }
        prop_assert!(run.open.is_empty(), "{:?} never answered", run.open);
        prop_assert!(run.world.irm.flows.is_empty(), "{:?}", run.world.irm.flows);
        prop_assert!(run.world.irm.timers.is_empty() && run.world.irm.calls.is_empty());
    }
}

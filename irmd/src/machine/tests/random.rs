//! Random sequences of inputs against what must always hold.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

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
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn step() -> impl Strategy<Value = Step> {
    let (pid, name, call) = (10..14u32, 0..NAMES.len(), 0..64usize);
    prop_oneof![
        1 => pid.clone().prop_map(Step::Lease),
        1 => pid.clone().prop_map(Step::Die),
        3 => (pid.clone(), name.clone()).prop_map(|(p, n)| Step::Serve(p, n)),
        1 => (pid.clone(), name.clone()).prop_map(|(p, n)| Step::Unserve(p, n)),
        5 => (pid.clone(), name.clone(), any::<bool>(), any::<bool>()).prop_map(|(p, n, a, t)| Step::Accept(p, n, a, t)),
        5 => (pid, name.clone()).prop_map(|(p, n)| Step::Alloc(p, n)),
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
    ]
}

/// A world with the calls that are open.
struct Run {
    world: World,
    open: HashSet<CallId>,
    offered: Vec<(u32, u64)>,
    attach: Option<CallId>,
}

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
            step => self.calls(step),
        }
        self.world.settle();
        self.collect();
        self.check();
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
            Step::Serve(pid, n) => drop(self.call(user(pid), serve(name(n)))),
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
        let mut run = Run { world, open: HashSet::new(), offered: Vec::new(), attach: None };
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

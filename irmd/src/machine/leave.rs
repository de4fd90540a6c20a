//! Ends: of waiting, of flows, of processes.

use proto::FlowId;
use proto::v1::{self, EndReason, EventKind, Failure, FailureKind};

use super::arrive::words;
use super::flow::{Flow, Stage, Way};
use super::name::Accept;
use super::transitions::{Event, Kind};
use super::{Answer, CallId, Caller, Effect, IpcpCall, Irm, Reply, Timer, fail};

impl Irm {
    /// A flow cannot be had: its row goes, its caller is told.
    pub(super) fn fail_flow(&mut self, row: FlowId, event: Event, failure: Failure) {
        let Some(flow) = self.flows.end(row, event) else { return };
        self.timers.clear(&Timer::Flow(row));
        let call = flow.stage.call();
        let name = flow.name.clone();
        self.note_refused(flow, &failure);
        if let Some(call) = call {
            self.flow_log(row, format!("flow {row} to {name} is not allocated: {failure}"));
            self.refuse(call, failure);
        }
    }

    /// Takes a flow out of whatever waits for it on the accepting side.
    pub(super) fn take_back(&mut self, row: FlowId) {
        let Some(flow) = self.flows.get(row) else { return };
        match &flow.stage {
            Stage::Waiting { .. } => {
                if let Some(entry) = self.names.get_mut(flow.name.as_str()) {
                    entry.backlog.retain(|waiting| *waiting != row);
                }
            }
            Stage::Offered { to, .. } => {
                let pid = to.pid;
                self.decided(pid, row);
            }
            Stage::Opening { to, accept: Some(accept), .. } => {
                let (pid, accept): (u32, Accept) = (to.pid, *accept);
                let name = flow.name.clone();
                if !self.names.get_mut(name.as_str()).is_some_and(|entry| entry.give_back(pid, accept)) {
                    self.accept_is_over(pid, accept.call);
                    self.refuse(accept.call, not_served(pid, &name));
                }
            }
            _ => {}
        }
    }

    /// The call that asked for the flow was cancelled.
    pub(super) fn caller_gave_up(&mut self, row: FlowId) {
        self.caller_gone(row, fail(FailureKind::FlowGone, "who asked gave up before the flow was allocated"));
    }

    /// Nobody waits for the flow any more; `why` is for the history.
    fn caller_gone(&mut self, row: FlowId, why: Failure) {
        self.take_back(row);
        self.timers.clear(&Timer::Flow(row));
        match self.flows.get(row).map(|flow| flow.stage.kind()) {
            Some(Kind::Asking) => {
                self.flows.step(row, Event::CallerGone, Stage::Abandoned);
                self.note_abandoned(row, &why);
            }
            Some(Kind::Waiting | Kind::Offered | Kind::Opening) => {
                if let Some(flow) = self.flows.end(row, Event::CallerGone) {
                    self.note_refused(flow, &why);
                }
            }
            _ => {}
        }
    }

    /// A flow was not allocated in time.
    pub(super) fn flow_timed_out(&mut self, row: FlowId) {
        self.take_back(row);
        let Some(flow) = self.flows.get(row) else { return };
        let name = flow.name.clone();
        match &flow.stage {
            Stage::Asking { call, .. } => {
                let (call, ipcp) = (*call, flow.ipcp().to_owned());
                self.flows.step(row, Event::Deadline, Stage::Abandoned);
                let text = format!("IPCP {ipcp} did not answer for {name} in time; see irm ipcp list");
                let failure = fail(FailureKind::TimedOut, text);
                self.note_abandoned(row, &failure);
                self.refuse(call, failure);
            }
            Stage::Waiting { .. } => {
                let text = format!("{name} exists, but no program took the flow in time; is its program running?");
                self.fail_flow(row, Event::Deadline, fail(FailureKind::NobodyAccepts, text));
            }
            Stage::Offered { to, .. } => {
                let text = format!("process {} was given the flow to {name} and did not answer in time", to.pid);
                self.fail_flow(row, Event::Deadline, fail(FailureKind::NobodyAccepts, text));
            }
            _ => {}
        }
    }

    /// A process has opened a lease.
    pub fn lease_opened(&mut self, process: v1::Process) {
        let pid = process.pid;
        if let Some(gone) = self.processes.lease_opened(process) {
            self.process_gone(pid, gone);
        }
    }

    /// A lease has ended, and with it the ends of local flows it held; `last`: its process has no other.
    pub fn lease_closed(&mut self, pid: u32, uid: u32, flows: &[FlowId], last: bool) {
        for flow in flows {
            self.end_local(*flow, EndReason::PeerDied, true);
        }
        if let Some(process) = self.processes.lease_closed(pid, uid, last) {
            self.process_gone(pid, process);
        }
    }

    fn process_gone(&mut self, pid: u32, process: super::process::Entry) {
        for row in process.deciding {
            let text = format!("process {pid}, which was to decide about the flow, has ended");
            self.fail_flow(row, Event::Refused, fail(FailureKind::NobodyAccepts, text));
        }
        for name in &process.serves {
            self.unbind(name, pid);
        }
        self.forget_stranded(pid);
    }

    /// The remote flows of a process that has ended go with their IPCP's word; where the IPCP is gone too, now.
    fn forget_stranded(&mut self, pid: u32) {
        if self.ipcps.iter().all(|i| i.attach.is_some()) {
            return;
        }
        let stranded = |flow: &&Flow| {
            let holder = match &flow.stage {
                Stage::Allocated { to } => to.as_ref().or(flow.caller()),
                _ => None,
            };
            let ipcp = flow.ipcp();
            holder.is_some_and(|p| p.pid == pid)
                && !ipcp.is_empty()
                && self.ipcps.get(ipcp).is_none_or(|i| i.attach.is_none())
        };
        let rows: Vec<FlowId> = self.flows.iter().filter(stranded).map(|flow| flow.id).collect();
        for row in rows {
            let gone = self.flows.end(row, Event::Over);
            self.note_ended(gone, EndReason::ProgramDied, None);
        }
    }

    /// A program took its end of a local flow.
    pub fn taken(&mut self, end: FlowId) {
        let row = self.flows.row(end).and_then(|row| self.flows.get_mut(row));
        if let Some(Flow { id, way: Way::Local(local), .. }) = row {
            let (row, accepting) = (*id, *id != end);
            local.taken[usize::from(accepting)] = true;
            let side = if accepting { "the accepting end" } else { "the asking end" };
            self.note(row, EventKind::HandedOver, Some(side.into()));
        }
    }

    /// A program did not take its end in time.
    pub fn not_taken(&mut self, end: FlowId) {
        self.end_local(end, EndReason::NeverTaken, true);
    }

    /// A program is done with its end.
    pub fn released(&mut self, end: FlowId) {
        self.effects.push_back(Effect::Forget(end));
        self.end_local(end, EndReason::PeerDeallocated, true);
    }

    /// A local flow is over because of `end`; the other end is told `reason`, and this one too unless it is `over`.
    pub(super) fn end_local(&mut self, end: FlowId, reason: EndReason, over: bool) {
        let Some(row) = self.flows.row(end) else { return };
        let is_local = |flow: &Flow| matches!(flow.way, Way::Local(_)) && flow.stage.kind() == Kind::Allocated;
        if !self.flows.get(row).is_some_and(is_local) {
            return;
        }
        let Some(mut gone) = self.flows.end(row, Event::Over) else { return };
        let Way::Local(local) = &mut gone.way else { return };
        let (tokens, taken, ends) = (local.tokens, local.taken, [Some(row), local.peer]);
        for (index, id) in ends.into_iter().enumerate() {
            let Some(id) = id.filter(|id| !over || *id != end) else { continue };
            if !taken[index] {
                let text = format!("flow {id} is over before it was taken: {}", words(reason));
                self.effects.push_back(Effect::Withdraw(tokens[index], fail(FailureKind::FlowGone, text)));
            }
            // Said of one that is not taken, too: its program may be taking it at this moment.
            self.effects.push_back(Effect::Gone(id, reason));
        }
        self.effects.push_back(Effect::CloseLocal { row, over: over.then_some(end) });
        self.note_ended(Some(gone), of_this_host(reason), None);
        self.flow_log(row, format!("flow {row} within this host is over: {}", words(reason)));
    }

    pub(super) fn flow_dealloc(&mut self, caller: &Caller, id: FlowId) -> Answer {
        let row = self.flows.row(id);
        // Of a flow that is not its own a user does not even learn that it is there.
        let seen = row.and_then(|row| self.flows.get(row)).filter(|flow| self.may_see(caller, flow));
        match seen.map(|flow| flow.id) {
            Some(row) => self.end_flow(row),
            None => Err(no_flow(id)),
        }
    }

    /// Ends a flow by order of whoever may.
    pub(super) fn end_flow(&mut self, row: FlowId) -> Answer {
        let Some(flow) = self.flows.get(row) else { return Err(no_flow(row)) };
        if let Some(call) = flow.stage.call() {
            let text = format!("flow {row} was ended with irm flow dealloc before it was allocated");
            let failure = fail(FailureKind::Refused, text);
            self.refuse(call, failure.clone());
            self.caller_gone(row, failure);
            return Ok(Some(Reply::Done));
        }
        if matches!(flow.way, Way::Local(_)) {
            self.end_local(row, EndReason::Admin, false);
            return Ok(Some(Reply::Done));
        }
        let ipcp = flow.ipcp().to_owned();
        let Some(attach) = self.ipcps.get(&ipcp).and_then(|i| i.attach) else { return Err(super::alloc::down(&ipcp)) };
        self.ask(&ipcp, attach, IpcpCall::Dealloc(row));
        Ok(Some(Reply::Done))
    }

    /// The process `pid` no longer serves `name`. A name that lived by its processes goes with the last.
    pub(super) fn unbind(&mut self, name: &proto::Name, pid: u32) {
        if let Some(process) = self.processes.get_mut(pid) {
            process.serves.remove(name);
        }
        let Some(entry) = self.names.get_mut(name.as_str()) else { return };
        let Some(accepts) = entry.unbind(pid) else { return };
        let over = entry.origin == super::name::Origin::Process && entry.processes().next().is_none();
        self.names.note_serving();
        for accept in accepts {
            self.accept_is_over(pid, accept.call);
            self.refuse(accept.call, not_served(pid, name));
        }
        if over {
            self.drop_name(name, None);
        } else {
            // Its flows may need a program now: looked at with the next timeout, which is due.
            self.timers.set(Timer::Name(name.clone()), self.since);
        }
    }

    /// A name goes: out of its layers, its waiting flows and accepts told. `call` waits for the layers.
    pub(super) fn drop_name(&mut self, name: &proto::Name, call: Option<CallId>) {
        let Some(mut entry) = self.names.remove(name.as_str()) else { return };
        let pids: Vec<u32> = entry.processes().collect();
        for pid in pids {
            if let Some(process) = self.processes.get_mut(pid) {
                process.serves.remove(name);
            }
            for accept in entry.unbind(pid).unwrap_or_default() {
                self.accept_is_over(pid, accept.call);
                let text = format!("the name {name} was destroyed; serve it again");
                self.refuse(accept.call, fail(FailureKind::NotFound, text));
            }
        }
        for row in std::mem::take(&mut entry.backlog) {
            let text = format!("nobody serves {name} any more; start its program again");
            self.fail_flow(row, Event::Failed, fail(FailureKind::NobodyAccepts, text));
        }
        self.timers.clear(&Timer::Name(name.clone()));
        self.unregister_everywhere(name, call);
        self.info(format!("name {name} is gone"));
    }
}

/// Why a flow is over, of which both ends are here.
fn of_this_host(told: EndReason) -> EndReason {
    match told {
        EndReason::PeerDeallocated => EndReason::Deallocated,
        EndReason::PeerDied => EndReason::ProgramDied,
        other => other,
    }
}

fn not_served(pid: u32, name: &proto::Name) -> Failure {
    fail(FailureKind::NotPermitted, format!("process {pid} no longer serves {name}; serve it again"))
}

pub(super) fn no_flow(id: FlowId) -> Failure {
    fail(FailureKind::NotFound, format!("no flow {id} on this host; see irm flow list"))
}

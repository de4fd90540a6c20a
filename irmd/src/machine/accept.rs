//! A program takes a flow.

use std::time::{Duration, Instant};

use proto::shim::{MAX_DATA, MAX_REASON};
use proto::v1::{self, EventKind, Failure, FailureKind};
use proto::{FlowId, Name, Token};

use super::flow::{Stage, Way};
use super::history::process_words;
use super::name::Accept;
use super::transitions::Event;
use super::{Answer, CallId, Caller, Effect, End, Irm, Parked, Reply, Timer};
use super::{fail, parse_name};

impl Irm {
    pub(super) fn flow_accept(
        &mut self,
        now: Instant,
        call: CallId,
        caller: &Caller,
        request: &v1::FlowAcceptRequest,
    ) -> Answer {
        let name = parse_name(&request.name)?;
        let Some(process) = self.processes.get(caller.pid).filter(|p| p.serves.contains(&name)) else {
            let text = format!("process {} does not serve {name}; it must Serve the name first", caller.pid);
            return Err(fail(FailureKind::NotPermitted, text));
        };
        let waiting = process.accepts;
        self.check_accepts(caller, waiting)?;
        let Some(entry) = self.names.get_mut(name.as_str()) else { return Ok(Some(Reply::Done)) };
        if let Some(process) = self.processes.get_mut(caller.pid) {
            process.accepts += 1;
        }
        self.accepting += 1;
        entry.push(caller.pid, Accept { call, ask: request.ask });
        entry.programs.iter_mut().for_each(super::program::Program::accepts);
        self.calls.insert(call, Parked::Accept { name: name.clone(), pid: caller.pid });
        if request.timeout_ms > 0 {
            self.timers.set(Timer::Accept(call), now + Duration::from_millis(request.timeout_ms.into()));
        }
        self.match_up(now, &name);
        Ok(None)
    }

    /// An accept was answered, withdrawn or timed out: it counts no longer.
    pub(super) fn accept_is_over(&mut self, pid: u32, call: CallId) {
        self.timers.clear(&Timer::Accept(call));
        self.accepting -= 1;
        if let Some(process) = self.processes.get_mut(pid) {
            process.accepts -= 1;
        }
    }

    pub(super) fn accept_timed_out(&mut self, call: CallId) {
        let Some(Parked::Accept { name, pid }) = self.calls.remove(&call) else { return };
        if let Some(entry) = self.names.get_mut(name.as_str()) {
            entry.withdraw(pid, call);
        }
        self.accept_is_over(pid, call);
        self.refuse(call, fail(FailureKind::TimedOut, format!("no flow for {name} arrived in time; accept again")));
    }

    /// A flow waits for the name from now on.
    pub(super) fn enqueue(&mut self, now: Instant, name: &Name, row: FlowId) {
        if let Some(entry) = self.names.get_mut(name.as_str()) {
            entry.backlog.push_back(row);
        }
        self.match_up(now, name);
    }

    /// Gives waiting flows to waiting accepts; then looks whether a program must be started.
    pub(super) fn match_up(&mut self, now: Instant, name: &Name) {
        while let Some(entry) = self.names.get_mut(name.as_str()) {
            let Some(row) = entry.backlog.front().copied() else { return };
            let Some((pid, accept)) = entry.next_accept() else { break };
            entry.backlog.pop_front();
            self.give(row, pid, accept);
        }
        self.demand(now, name);
    }

    fn give(&mut self, row: FlowId, pid: u32, accept: Accept) {
        let to = self.processes.get(pid).map(|p| p.process.clone()).unwrap_or_default();
        let Some(flow) = self.flows.get(row) else { return };
        let Some(call) = flow.stage.call() else { return };
        let local = matches!(flow.way, Way::Local(_));
        if !accept.ask && local {
            return self.open(row, to, Some(accept), Vec::new());
        }
        if local {
            self.flows.mint_peer(row);
        }
        self.accept_is_over(pid, accept.call);
        let handle = self.accepting_handle(row);
        if accept.ask {
            if let Some(process) = self.processes.get_mut(pid) {
                process.deciding.insert(row);
            }
            self.note(row, EventKind::Offered, Some(process_words(&to)));
            self.flows.step(row, Event::Asked, Stage::Offered { call, to });
        } else {
            self.accepted(row, call, to, Vec::new());
        }
        self.reply(accept.call, Reply::Handle(handle));
    }

    /// A program here accepted a peer's request: its IPCP makes the socket.
    fn accepted(&mut self, row: FlowId, call: CallId, to: v1::Process, data: Vec<u8>) {
        self.flows.step(row, Event::Accepted, Stage::Allocated { to: Some(to.clone()) });
        self.timers.clear(&Timer::Flow(row));
        let Some(flow) = self.flows.get_mut(row) else { return };
        flow.data = Vec::new();
        let line = format!("flow {row} to {} from {} is accepted by {}", flow.name, flow.source, to.pid);
        self.note_allocated(row, 0);
        self.flow_log(row, line);
        let reply = v1::FlowReqArrReply { flow_id: row.0, process: Some(to), data };
        self.reply(call, Reply::Accepted(reply));
    }

    /// Lets the socket pair of a local flow be made.
    fn open(&mut self, row: FlowId, to: v1::Process, accept: Option<Accept>, data: Vec<u8>) {
        let Some(flow) = self.flows.get(row) else { return };
        let (Way::Local(local), Some(call)) = (&flow.way, flow.stage.call()) else { return };
        let tokens = local.tokens;
        let (caller, peer) = (local.caller.clone(), local.peer);
        let peer = peer.unwrap_or_else(|| self.flows.mint_peer(row));
        let end = |flow, token, process: &v1::Process| {
            let ticket = self.ticket(row, peer, flow == peer, process.uid)?;
            Some(End { flow, token, pid: process.pid, uid: process.uid, ticket })
        };
        let (Some(asking), Some(accepting)) = (end(row, tokens[0], &caller), end(peer, tokens[1], &to)) else { return };
        let ends = Box::new([asking, accepting]);
        self.flows.step(row, Event::Paired, Stage::Opening { call, to, accept, data });
        self.opening += 1;
        self.effects.push_back(Effect::OpenLocal { row, ends });
    }

    /// The pair of a local flow was made and offered, or could not be. To be called right after
    /// [`Effect::OpenLocal`], before any other input.
    pub fn local_opened(&mut self, row: FlowId, made: Result<(), Failure>) {
        self.opening = self.opening.saturating_sub(1);
        let Some(Stage::Opening { call, to, accept, data }) = self.flows.get(row).map(|flow| &flow.stage) else {
            return self.effects.push_back(Effect::CloseLocal { row, over: Some(row) });
        };
        let (call, to, accept, data) = (*call, to.clone(), *accept, data.clone());
        if let Err(failure) = made {
            self.take_back(row);
            let name = self.flows.get(row).map(|flow| flow.name.clone());
            self.fail_flow(row, Event::Failed, failure);
            // The accept is free for the next flow: looked at with the next timeout, which is due.
            return name.into_iter().for_each(|name| self.timers.set(Timer::Name(name), self.since));
        }
        let mut handle = self.accepting_handle(row);
        let accepting = std::mem::take(&mut handle.data);
        let asking = v1::FlowHandle { flow_id: row.0, token: self.asking_token(row), data, ..handle.clone() };
        self.flows.step(row, Event::Accepted, Stage::Allocated { to: Some(to.clone()) });
        self.timers.clear(&Timer::Flow(row));
        if let Some(flow) = self.flows.get_mut(row) {
            flow.data = Vec::new();
        }
        self.note_allocated(row, 0);
        let line = format!("flow {row} to {} within this host is allocated, {} accepts", handle.name, to.pid);
        self.flow_log(row, line);
        self.reply(call, Reply::Handle(asking));
        if let Some(accept) = accept {
            self.accept_is_over(to.pid, accept.call);
            self.reply(accept.call, Reply::Handle(v1::FlowHandle { data: accepting, ..handle }));
        }
    }

    fn asking_token(&self, row: FlowId) -> Vec<u8> {
        match self.flows.get(row).map(|flow| &flow.way) {
            Some(Way::Local(local)) => local.tokens[0].0.to_vec(),
            _ => Vec::new(),
        }
    }

    /// What the accepting program gets.
    fn accepting_handle(&self, row: FlowId) -> v1::FlowHandle {
        let Some(flow) = self.flows.get(row) else { return v1::FlowHandle::default() };
        let handle = v1::FlowHandle {
            name: flow.name.to_string(),
            source_name: flow.source.clone(),
            qos: Some(flow.qos),
            data: flow.data.clone(),
            ..v1::FlowHandle::default()
        };
        match &flow.way {
            Way::In(arrived) => v1::FlowHandle {
                flow_id: row.0,
                token: arrived.token.clone(),
                handoff: arrived.handoff.clone(),
                layer: arrived.layer.clone(),
                peer_address: arrived.peer_address.clone(),
                classic: arrived.classic,
                judged: self.judges_identities(&flow.name),
                ..handle
            },
            Way::Local(local) => v1::FlowHandle {
                flow_id: local.peer.map_or(0, |peer| peer.0),
                token: token_bytes(local.tokens[1]),
                handoff: self.settings.handoff.clone(),
                layer: "local".into(),
                ..handle
            },
            Way::Out(_) => handle,
        }
    }

    pub(super) fn flow_answer(&mut self, _now: Instant, caller: &Caller, answer: v1::FlowAnswerRequest) -> Answer {
        let id = FlowId(answer.flow_id);
        let row = self.flows.row(id);
        let Some(Stage::Offered { call, to }) = row.and_then(|row| self.flows.get(row)).map(|flow| &flow.stage) else {
            let text = format!("flow {id} waits for no answer any more: its caller gave up, or it was answered");
            return Err(fail(FailureKind::FlowGone, text));
        };
        let (row, call, to) = (row.unwrap_or(id), *call, to.clone());
        if (to.pid, to.uid) != (caller.pid, caller.uid) {
            let text = format!("flow {id} was given to process {}; only that may answer", to.pid);
            return Err(fail(FailureKind::NotPermitted, text));
        }
        if answer.reason.len() > MAX_REASON || answer.data.len() > MAX_DATA {
            let text = format!("an answer has at most {MAX_REASON} bytes of reason and {MAX_DATA} of data; shorten it");
            return Err(fail(FailureKind::Invalid, text));
        }
        self.decided(to.pid, row);
        self.note(row, EventKind::Answered, Some(if answer.accept { "yes" } else { "no" }.into()));
        let Some(flow) = self.flows.get(row) else { return Ok(Some(Reply::Done)) };
        if !answer.accept {
            let text = match answer.reason.as_str() {
                "" => format!("the program that serves {} refused the flow", flow.name),
                reason => format!("the program that serves {} refused the flow: {reason}", flow.name),
            };
            let failure = Failure { reason: answer.reason, ..fail(FailureKind::Refused, text) };
            self.fail_flow(row, Event::Refused, failure);
        } else if matches!(flow.way, Way::Local(_)) {
            self.open(row, to, None, answer.data);
        } else {
            self.accepted(row, call, to, answer.data);
        }
        Ok(Some(Reply::Done))
    }

    /// A process no longer decides about a flow.
    pub(super) fn decided(&mut self, pid: u32, row: FlowId) {
        if let Some(process) = self.processes.get_mut(pid) {
            process.deciding.remove(&row);
        }
    }
}

fn token_bytes(token: Token) -> Vec<u8> {
    token.0.to_vec()
}

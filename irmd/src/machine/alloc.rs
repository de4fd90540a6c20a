//! A program here asks for a flow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::shim::MAX_DATA;
use proto::v1::{self, EventKind, Failure, FailureKind};
use proto::{FlowId, Name, Token};

use super::flow::{Flow, Local, Out, Stage, Way};
use super::transitions::Event;
use super::{Answer, CallId, Caller, IpcpAnswer, IpcpCall, Irm, Parked, Reply, Timer};
use super::{check_version, fail, known_qos, parse_name};

/// An IPCP keeps the deadline itself and knows better what it waited for; ours comes this much later.
const GRACE: Duration = Duration::from_secs(1);

/// Which way a flow goes.
enum Route {
    Local,
    Layers(VecDeque<String>),
}

impl Irm {
    pub(super) fn flow_alloc(
        &mut self,
        now: Instant,
        call: CallId,
        caller: &Caller,
        request: v1::FlowAllocRequest,
        tokens: [Token; 2],
    ) -> Answer {
        check_version(request.version)?;
        let name = parse_name(&request.name)?;
        let qos = known_qos(request.qos)?;
        check_words(&request)?;
        self.check_room()?;
        self.check_user(caller.uid)?;
        let route = self.route(&name, &request.layer).map_err(|failure| self.unless_returning(now, failure))?;
        if matches!(route, Route::Local) || self.names.get(name.as_str()).is_some() {
            // One that no layer reaches may come back to this host.
            self.check_allocate(now, caller, &name)?;
        }
        let caller = self.processes.describe(caller);
        let way = match &route {
            Route::Local => local(caller, tokens),
            Route::Layers(_) => Way::Out(Box::new(Out {
                caller,
                tokens,
                ipcp: String::new(),
                layer: request.layer,
                peer_address: String::new(),
                classic: false,
                host_key: None,
            })),
        };
        let (row, deadline) = (self.flows.mint(), now + self.wait(request.timeout_ms));
        let (stage, timer) = match route {
            Route::Local => (Stage::Waiting { call }, deadline),
            Route::Layers(rest) => (Stage::Asking { call, attach: CallId(0), rest, failure: None }, deadline + GRACE),
        };
        let flow = Flow {
            id: row,
            name: name.clone(),
            source: request.source_name,
            qos,
            since: now,
            known: now,
            deadline,
            data: request.data,
            stage,
            way,
            peer: None,
            past: Default::default(),
        };
        let asking = matches!(flow.stage, Stage::Asking { .. });
        if !asking {
            self.check_backlog(&name)?;
        }
        let asker = flow.caller().map_or(0, |process| process.pid);
        self.flow_log(row, format!("flow {row} to {name} is asked for by process {asker}"));
        self.flows.insert(flow);
        self.begun(row, EventKind::Requested);
        self.calls.insert(call, Parked::Flow(row));
        self.timers.set(Timer::Flow(row), timer);
        if asking {
            self.ask_next(now, row)
        } else {
            self.enqueue(now, &name, row)
        }
        Ok(None)
    }

    /// Whether one more flow may be asked for.
    pub(super) fn check_room(&mut self) -> Result<(), Failure> {
        if self.flows.pending() < self.settings.pending && self.flows.len() < self.settings.flows {
            return Ok(());
        }
        let text = format!(
            "this irmd holds {} flows of which {} wait, as many as it may; try again later",
            self.flows.len(),
            self.flows.pending()
        );
        Err(self.exhausted("refused_flows", text))
    }

    /// Whether one more flow may wait for the name.
    pub(super) fn check_backlog(&mut self, name: &Name) -> Result<(), Failure> {
        let waiting = self.names.get(name.as_str()).map_or(0, |e| e.backlog.len());
        if waiting < self.settings.backlog {
            return Ok(());
        }
        let text = format!("{waiting} flows wait for {name} already, as many as may; try again later");
        Err(self.exhausted("refused_backlog", text))
    }

    fn route(&self, name: &Name, layer: &str) -> Result<Route, Failure> {
        if !["", "local"].contains(&layer) && !self.ipcps.knows_layer(layer) {
            let text = format!("no layer {layer} exists on this host; see irm ipcp list");
            return Err(fail(FailureKind::NoSuchLayer, text));
        }
        let entry = self.names.get(name.as_str());
        let here = entry.is_some_and(|e| match layer {
            "" => e.is_bound() || !e.layers.is_empty(),
            "local" => true,
            layer => e.layers.contains(layer),
        });
        if here {
            return Ok(Route::Local);
        }
        if layer == "local" {
            return Err(fail(FailureKind::UnknownName, format!("{name} does not exist on this host; serve it first")));
        }
        let queue: VecDeque<String> = self
            .ipcps
            .iter()
            .filter(|i| !i.layer().is_empty() && (layer.is_empty() || layer == i.layer()))
            .map(|i| i.name.clone())
            .collect();
        match (queue.is_empty(), entry.is_some()) {
            (true, true) => Ok(Route::Local),
            (true, false) => Err(fail(
                FailureKind::UnknownName,
                format!("{name} is not served on this host, and no layer exists to ask; see irm ipcp bootstrap"),
            )),
            (false, _) => Ok(Route::Layers(queue)),
        }
    }

    /// Asks the next IPCP for a flow, or ends it when none is left.
    fn ask_next(&mut self, now: Instant, row: FlowId) {
        let Some(flow) = self.flows.get_mut(row) else { return };
        let Way::Out(out) = &mut flow.way else { return };
        let Stage::Asking { attach, rest, failure, .. } = &mut flow.stage else { return };
        while let Some(next) = rest.pop_front() {
            let Some(ipcp) = self.ipcps.get(&next) else { continue };
            let Some(attached) = ipcp.operational() else {
                failure.get_or_insert_with(|| down(&next));
                continue;
            };
            out.ipcp.clone_from(&next);
            *attach = attached;
            let left = flow.deadline.saturating_duration_since(now).as_millis().clamp(1, 60_000);
            let request = v1::AllocRequest {
                flow_id: row.0,
                name: flow.name.to_string(),
                source_name: flow.source.clone(),
                qos: Some(flow.qos),
                timeout_ms: u32::try_from(left).unwrap_or(60_000),
                data: flow.data.clone(),
                process: Some(out.caller.clone()),
            };
            self.note(row, EventKind::Asked, Some(format!("IPCP {next}").into()));
            return self.ask(&next, attached, IpcpCall::Alloc(request));
        }
        self.nobody_reaches(now, row);
    }

    /// All IPCPs were asked: the name may still exist here and get a program, else the flow has failed.
    fn nobody_reaches(&mut self, now: Instant, row: FlowId) {
        let Some(flow) = self.flows.get(row) else { return };
        let (name, deadline) = (flow.name.clone(), flow.deadline);
        let (Way::Out(out), Stage::Asking { call, failure, .. }) = (&flow.way, &flow.stage) else { return };
        let (call, failure) = (*call, failure.clone());
        let way = local(out.caller.clone(), out.tokens);
        let exists = out.layer.is_empty() && self.names.get(name.as_str()).is_some();
        if exists && self.check_backlog(&name).is_ok() {
            if let Some(flow) = self.flows.get_mut(row) {
                flow.way = way;
            }
            self.flows.step(row, Event::Queued, Stage::Waiting { call });
            self.timers.set(Timer::Flow(row), deadline);
            return self.enqueue(now, &name, row);
        }
        let unknown =
            || fail(FailureKind::UnknownName, format!("no layer knows {name}; is it registered on its host?"));
        let failure = self.unless_returning(now, failure.unwrap_or_else(unknown));
        self.fail_flow(row, Event::Failed, failure);
    }

    /// An IPCP has answered for a flow.
    pub(super) fn asked(
        &mut self,
        now: Instant,
        ipcp: &str,
        attach: CallId,
        row: FlowId,
        answer: Result<IpcpAnswer, Failure>,
    ) {
        let current = match self.flows.get(row) {
            Some(flow) => match &flow.stage {
                Stage::Asking { attach: asked, .. } => *asked == attach,
                Stage::Abandoned if flow.ipcp() == ipcp => {
                    let event = if answer.is_ok() { Event::Reached } else { Event::Failed };
                    let gone = self.flows.end(row, event);
                    self.note_given_up(gone);
                    false
                }
                _ => false,
            },
            None => false,
        };
        match answer {
            Ok(IpcpAnswer::Allocated(reply)) if current => self.reached(row, ipcp, reply),
            Ok(_) if current => {
                let failure = fail(FailureKind::Internal, format!("IPCP {ipcp} answered nonsense; update it"));
                self.try_next(now, row, failure);
            }
            // Nobody waits for it any more.
            Ok(_) => self.ask(ipcp, attach, IpcpCall::Dealloc(row)),
            Err(failure) if current => self.try_next(now, row, failure),
            Err(_) => {}
        }
    }

    /// Whether the next IPCP is asked depends on why this one failed.
    pub(super) fn try_next(&mut self, now: Instant, row: FlowId, failure: Failure) {
        let Some(Stage::Asking { call, attach, rest, failure: earlier }) =
            self.flows.get_mut(row).map(|flow| &mut flow.stage)
        else {
            return;
        };
        match failure.kind() {
            FailureKind::UnknownName | FailureKind::IpcpDown | FailureKind::DirectoryFailed => {
                *earlier = Some(worse(earlier.take(), failure))
            }
            _ => return self.fail_flow(row, Event::Failed, failure),
        }
        let next = Stage::Asking { call: *call, attach: *attach, rest: std::mem::take(rest), failure: earlier.take() };
        self.flows.step(row, Event::NextIpcp, next);
        self.ask_next(now, row);
    }

    /// The peer accepted: the asking program gets its flow.
    fn reached(&mut self, row: FlowId, ipcp: &str, reply: v1::AllocReply) {
        let handoff = self.ipcps.get(ipcp).map(|i| (i.handoff.clone(), i.layer().to_owned()));
        let (handoff, layer) = handoff.unwrap_or_default();
        let before = self.flows.step(row, Event::Reached, Stage::Allocated { to: None });
        self.timers.clear(&Timer::Flow(row));
        let (Some(flow), Some(Stage::Asking { call, .. })) = (self.flows.get_mut(row), before) else { return };
        let handle = v1::FlowHandle {
            flow_id: row.0,
            token: reply.token,
            handoff,
            name: flow.name.to_string(),
            source_name: flow.source.clone(),
            layer: layer.clone(),
            peer_address: reply.peer_address.clone(),
            qos: Some(flow.qos),
            data: reply.data,
            classic: reply.classic,
            judged: false,
        };
        flow.data = Vec::new();
        if let Way::Out(out) = &mut flow.way {
            out.layer = layer;
            out.peer_address = reply.peer_address;
            out.classic = reply.classic;
            // One that is none says nothing of the peer.
            out.host_key = reply.host_key.parse().ok();
        }
        let line = format!("flow {row} to {} is allocated over {ipcp}, peer {}", handle.name, handle.peer_address);
        self.note_allocated(row, reply.asked);
        self.flow_log(row, line);
        self.reply(call, Reply::Handle(handle));
    }
}

/// A local flow that no program has taken yet.
fn local(caller: v1::Process, tokens: [Token; 2]) -> Way {
    Way::Local(Box::new(Local { caller, tokens, peer: None, taken: [false; 2] }))
}

/// The IPCP that would reach the name is not there.
pub(super) fn down(ipcp: &str) -> Failure {
    fail(FailureKind::IpcpDown, format!("IPCP {ipcp} is not running or not in its layer; see irm ipcp list"))
}

fn check_words(request: &v1::FlowAllocRequest) -> Result<(), Failure> {
    if !request.source_name.is_empty() {
        parse_name(&request.source_name)?;
    }
    if request.data.len() > MAX_DATA {
        let text =
            format!("{} bytes of data beside a request are too many; send {MAX_DATA} at most", request.data.len());
        return Err(fail(FailureKind::Invalid, text));
    }
    Ok(())
}

/// What to tell when no layer reaches a name: a layer that could not be asked, else what each of them said.
fn worse(earlier: Option<Failure>, failure: Failure) -> Failure {
    match earlier {
        None => failure,
        Some(earlier) if matches!(earlier.kind(), FailureKind::IpcpDown | FailureKind::DirectoryFailed) => earlier,
        Some(earlier) if failure.kind() == FailureKind::UnknownName => {
            Failure { message: format!("{}; {}", earlier.message, failure.message), ..earlier }
        }
        Some(_) => failure,
    }
}

//! The accepting side: from a request on the listen port to a socket that waits for its program.
//!
//! The socket is opened before a program is asked: a program never accepts a flow that cannot be made.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::shim::{Asked, CLASSIC_SOURCE, DATAGRAM, Extension, MAX_DATA, PORT, Request, Verdict};
use proto::v1::{EndReason, Failure, FailureKind};
use proto::{Cube, Name, Qos, WireId};

use super::answers;
use super::client::LONGEST_TIMEOUT;
use super::failures::{no_port, not_opened, verdict_of};
use super::finding::Others;
use super::flow::{Accepting, Flow, RequestKey, State, Waiting};
use super::liveness::{Peer, Vital};
use super::open::Path;
use super::output::{Accept, Arrival, Echo, Key, OpenError, Output, Owner};
use super::roaming::Place;
use super::table::{Cause, Phase};
use super::{Reason, Shim};

/// For callers that name no deadline, classic ones among them.
pub(super) const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);
/// Ports tried on the word of the system that one is in use.
const MOST_TRIES: u32 = 64;

impl Shim {
    /// A datagram on the listen port that does not begin with NUL.
    pub(super) fn handle_request(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        // Requests come from a port of their own. One that seems to come from a listen port would make two shims
        // talk to each other for ever about what neither asked.
        if from.port() == PORT || from == self.settings.listen {
            return self.counters.count(Reason::Spoofed);
        }
        if self.is_late(now, from, bytes) {
            return;
        }
        let Some(proven) = self.gate(now, from, bytes) else { return };
        let request = match Request::decode(bytes) {
            Ok(request) => request,
            Err(malformed) => return self.counters.count(malformed),
        };
        self.counters.count(Reason::Requests);
        match request {
            Request::Classic(name) => self.classic_request(now, from, name),
            // All answers together must not be longer than the request (the port is no amplifier).
            Request::Extended(..) if bytes.len() < DATAGRAM => self.counters.count(Reason::Unpadded),
            Request::Extended(name, extension) => self.extended_request(now, from, name, extension, proven),
            Request::OtherVersion { name, client, .. } => {
                let answer = self.verdict(client, WireId(0), Verdict::Version, "", Vec::new(), None).encode(&name);
                if answer.len() > bytes.len() {
                    return self.counters.count(Reason::Unpadded);
                }
                self.answer(from, answer);
            }
        }
    }

    fn classic_request(&mut self, now: Instant, from: SocketAddr, name: Name) {
        let request = RequestKey { from, client: None, name };
        if self.again(now, &request, false) {
            return;
        }
        if !self.directory.answers_for(&request.name) {
            return self.counters.count(Reason::NotRegistered);
        }
        // A classic caller hears no reason: silence is its refusal.
        if self.no_room(from) {
            return self.counters.count(Reason::Exhausted);
        }
        if self.shares() && self.is_taken(from) {
            return self.counters.count(Reason::Spoofed);
        }
        let key = self.arrive(now, request, CLASSIC_SOURCE.to_owned(), Qos::raw(), DEFAULT_DEADLINE, false);
        self.open_sp(now, key);
        self.settle(key);
    }

    fn extended_request(&mut self, now: Instant, from: SocketAddr, name: Name, extension: Extension, proven: bool) {
        let request = RequestKey { from, client: Some(extension.client), name };
        // Before any state is made.
        if self.again(now, &request, extension.direct) {
            return;
        }
        let stateless = if !self.directory.answers_for(&request.name) && self.recovers(now) {
            // irmd registers its names anew in this moment.
            Some(Verdict::Recovering)
        } else if !self.directory.answers_for(&request.name) {
            self.counters.count(Reason::NotRegistered);
            Some(Verdict::UnknownName)
        } else if self.no_room(from) {
            self.counters.count(Reason::Exhausted);
            Some(Verdict::Exhausted)
        } else {
            None
        };
        if let Some(verdict) = stateless {
            let answer = self.verdict(extension.client, WireId(0), verdict, "", Vec::new(), None);
            return self.answer(from, answer.encode(&request.name));
        }
        let deadline = match extension.deadline_ms {
            0 => DEFAULT_DEADLINE,
            ms => Duration::from_millis(ms.into()).min(LONGEST_TIMEOUT),
        };
        // So much earlier that a refusal is with the caller before it gives up.
        let margin = (deadline / 8).min(Duration::from_millis(500));
        let asked = (extension.qos.cube != Cube::Raw).then(|| Box::new(Asked::new(&request.name, &extension)));
        let key = self.arrive(now, request, extension.source, extension.qos, deadline - margin, proven);
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.asked = asked;
            flow.theirs = extension.client;
            flow.of = Some(Peer { host: extension.host, boot: extension.boot });
            flow.path.direct = extension.direct;
            flow.control.set_port(extension.listen_port);
            flow.data = extension.data;
        }
        self.open_sp(now, key);
        if let Some(shared) = self.flows.get_mut(&key).and_then(|flow| flow.shared.as_mut()) {
            shared.asks_until = Some(now + deadline);
        }
        self.settle(key);
    }

    fn no_room(&mut self, from: SocketAddr) -> bool {
        let full = self.stopping.is_some() || self.waiting() >= self.settings.max_pending || self.full();
        full || self.is_crowded(from.ip())
    }

    fn arrive(
        &mut self,
        now: Instant,
        request: RequestKey,
        source: String,
        qos: Qos,
        within: Duration,
        proven: bool,
    ) -> Key {
        let (key, token) = (self.next_key(), self.token());
        let mut flow = self.accepting_flow(now, request, source, qos);
        flow.state = State::Reserving(Waiting { deadline: now + within, token, echoed: false, proven, tries: 0 });
        flow.begin(Cause::Request);
        self.insert(key, flow);
        key
    }

    /// A flow that another host asks for, in the first of its states.
    pub(super) fn accepting_flow(&mut self, now: Instant, request: RequestKey, source: String, qos: Qos) -> Flow {
        let classic = request.client.is_none();
        let waiting = Waiting { deadline: now, token: proto::Token([0; 16]), echoed: false, proven: false, tries: 0 };
        Flow {
            id: None,
            name: request.name.clone(),
            source,
            qos,
            since: now,
            accepting: true,
            classic,
            ours: self.wire_id(),
            theirs: WireId(0),
            of: None,
            starts: Vec::new(),
            peer: request.from,
            control: SocketAddr::new(request.from.ip(), PORT),
            local: None,
            owner: Owner::default(),
            sdu_limit: 0,
            data: Vec::new(),
            heard: Vec::new(),
            asked: None,
            requests: 0,
            taken: None,
            request: Some(request),
            answered: None,
            swap_at: None,
            keepalive: None,
            path: Path::default(),
            others: Others::default(),
            shared: None,
            met: None,
            way: None,
            moving: None,
            place: Place::default(),
            vital: Vital::default(),
            tallied: Phase::Reserving,
            state: State::Reserving(waiting),
            armed: None,
            #[cfg(test)]
            visited: Vec::new(),
        }
    }

    pub(super) fn tell_irmd(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Waiting(Waiting { deadline, token, proven, .. }) = flow.state else { return };
        let arrival = Arrival {
            name: flow.name.clone(),
            source: flow.source.clone(),
            qos: flow.qos,
            token,
            within: deadline.saturating_duration_since(now),
            data: std::mem::take(&mut flow.data),
            peer: flow.peer,
            classic: flow.classic,
            proven,
        };
        self.out(Output::Arrived { key, arrival });
    }

    /// irmd's answer to [`Output::Arrived`].
    pub fn answered(&mut self, now: Instant, key: Key, answer: Result<Accept, Failure>) {
        let waiting = match self.flows.get(&key).map(|flow| &flow.state) {
            Some(State::Waiting(waiting)) => *waiting,
            _ => {
                // Too late: the caller has been told that nobody accepts, and the token is void.
                if let Ok(accept) = answer {
                    self.out(Output::Ended { flow: accept.flow, reason: EndReason::NeverTaken });
                }
                return;
            }
        };
        match answer {
            Ok(accept) if accept.data.len() > MAX_DATA || self.by_id.contains_key(&accept.flow) => {
                let text = format!("irmd's acceptance of flow {} breaks its bounds", accept.flow);
                self.refuse(now, key, Cause::ProgramRefused, Failure::new(FailureKind::Internal, text));
                if !self.by_id.contains_key(&accept.flow) {
                    self.out(Output::Ended { flow: accept.flow, reason: EndReason::NeverTaken });
                }
            }
            Ok(accept) => match self.not_for(&accept.owner) {
                Some(failure) => {
                    self.refuse(now, key, Cause::ProgramRefused, failure);
                    self.out(Output::Ended { flow: accept.flow, reason: EndReason::NeverTaken });
                }
                None => self.accepted(now, key, waiting, accept),
            },
            Err(failure) => self.refuse(now, key, Cause::ProgramRefused, failure),
        }
        self.settle(key);
    }

    fn accepted(&mut self, now: Instant, key: Key, waiting: Waiting, accept: Accept) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.id = Some(accept.flow);
        flow.owner = accept.owner;
        flow.data = accept.data;
        self.by_id.insert(accept.flow, key);
        if waiting.echoed {
            flow.go(Cause::ProgramAccepted, State::Offered);
            flow.keepalive(now);
            self.offer(key, waiting.token, None);
        } else {
            flow.go(Cause::ProgramAccepted, State::Accepting(Accepting { token: waiting.token }));
            self.connect_sp(now, key);
        }
    }

    fn open_sp(&mut self, now: Instant, key: Key) {
        if self.shares() {
            return self.reserve(now, key);
        }
        match self.ports.choose(now, self.settings.sp, &mut self.rng) {
            // Nothing may arrive before it is connected to the one host that may send.
            Some(port) => self.out(Output::Open { key, port, watch: false }),
            None => self.refuse(now, key, Cause::NoSocket, no_port(self.settings.sp)),
        }
    }

    pub(super) fn sp_opened(&mut self, now: Instant, key: Key, result: Result<(), OpenError>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Reserving(waiting) = &mut flow.state else { return };
        waiting.tries += 1;
        match result {
            Ok(()) if flow.classic && self.settings.echo == Echo::OnArrival => {
                self.connect_sp(now, key);
            }
            Ok(()) => {
                let waiting = *waiting;
                flow.go(Cause::Opened, State::Waiting(waiting));
                self.answer_flow(key, Verdict::Pending);
                self.tell_irmd(now, key);
            }
            Err(OpenError::PortInUse) if waiting.tries < MOST_TRIES => self.open_sp(now, key),
            Err(error) => {
                let failure = not_opened(&error, self.settings.sp, self.settings.listen);
                self.refuse(now, key, Cause::NoSocket, failure);
            }
        }
    }

    pub(super) fn sp_connected(&mut self, now: Instant, key: Key, result: Result<(), String>) {
        if let Err(error) = result {
            let text = format!("the flow's socket could not be connected: {error}");
            return self.refuse(now, key, Cause::NoSocket, Failure::new(FailureKind::Internal, text));
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.answered = Some(now);
        match flow.state {
            State::Reserving(waiting) => {
                flow.go(Cause::Connected, State::Waiting(Waiting { echoed: true, ..waiting }));
                self.answer_flow(key, Verdict::Pending);
                self.tell_irmd(now, key);
            }
            State::Accepting(Accepting { token }) => {
                flow.go(Cause::Connected, State::Offered);
                flow.keepalive(now);
                if flow.classic {
                    self.answer_flow(key, Verdict::Accepted);
                } else {
                    let pending = self.verdict(WireId(0), WireId(0), Verdict::Pending, "", Vec::new(), None);
                    let spent = self.flows.get(&key).map_or(0, |flow| pending.encode(&flow.name).len());
                    self.say_accepted(now, key, Some(spent));
                }
                let (host, boot) = (self.settings.host, self.settings.boot);
                let binding = self.flows.get_mut(&key).and_then(|flow| {
                    let asked = flow.asked.take()?;
                    Some(asked.answered(host, boot, flow.ours, &flow.data))
                });
                self.offer(key, token, binding);
                self.look_for_repeats(now, key);
                self.catch(now, key);
                self.pair(now, key);
            }
            _ => {}
        }
    }

    pub(super) fn server_timeout(&mut self, now: Instant, key: Key) {
        let Some(State::Waiting(Waiting { deadline, .. }) | State::Reserving(Waiting { deadline, .. })) =
            self.flows.get(&key).map(|flow| &flow.state)
        else {
            return;
        };
        if *deadline > now {
            return;
        }
        let reserving = matches!(self.flows.get(&key).map(|flow| flow.state.phase()), Some(Phase::Reserving));
        let failure = Failure::new(FailureKind::NobodyAccepts, "no program took the flow in time");
        self.refuse(now, key, if reserving { Cause::NoSocket } else { Cause::Deadline }, failure);
    }

    /// The flow is not to be: says so to the caller, to a program that may redeem the token, and to irmd.
    pub(super) fn refuse(&mut self, now: Instant, key: Key, cause: Cause, failure: Failure) {
        let met = self.flows.get(&key).is_some_and(|flow| flow.met.is_some());
        if !met {
            self.close(now, key);
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (token, told) = match flow.state {
            State::Waiting(Waiting { token, .. }) => (token, cause != Cause::ProgramRefused),
            State::Reserving(Waiting { token, .. }) | State::Accepting(Accepting { token }) => (token, false),
            _ => return,
        };
        if !met {
            flow.go(cause, State::Over);
        }
        let (verdict, reason) = verdict_of(&failure);
        let (id, theirs, request) = (flow.id, flow.theirs, flow.request.clone());
        if told {
            self.out(Output::Abandon { key });
        }
        self.out(Output::Withdraw { token, failure: failure.clone() });
        if let Some(flow) = id {
            self.out(Output::Ended { flow, reason: EndReason::NeverTaken });
        }
        let Some(request) = request else { return };
        if request.client.is_none() {
            return self.answers.remember(now + answers::CLASSIC, request, None);
        }
        let bytes = self.verdict(theirs, WireId(0), verdict, reason, Vec::new(), None).encode(&request.name);
        if met {
            return self.keep_refusing(now, key, cause, bytes);
        }
        self.answers.remember(now + answers::EXTENDED, request.clone(), Some(bytes.clone()));
        self.answer(request.from, bytes);
    }
}

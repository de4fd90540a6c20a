//! The accepting side of a flow through a rendezvous: another member wants a flow, its request will come to the flow's own
//! socket. What is said to that goes out there, too.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::rendezvous::{Introduction, Refusal};
use proto::shim::{Asked, CLASSIC_SOURCE, DATAGRAM, Extension, Request, Verdict};
use proto::{Cube, Qos};

use super::client::LONGEST_TIMEOUT;
use super::flow::{RequestKey, State, Waiting};
use super::liveness::Peer;
use super::meeting::{Meeting, Met};
use super::output::{Key, OpenError, Output};
use super::rendezvous::attempt::Attempt;
use super::shared::Shared;
use super::table::Cause;
use super::{Reason, Shim};

/// The other side's request comes within this time, or never.
const PATIENCE: Duration = Duration::from_secs(6);
/// Ports tried on the word of the system that one is in use.
const MOST_TRIES: u32 = 64;
/// A refusal is said again so long, as often as it is asked for.
const REFUSING: Duration = Duration::from_secs(3);

/// A request to a flow that met is refused; said as long as it is asked again.
#[derive(Clone, Debug)]
pub(super) struct Refusing {
    pub(super) until: Instant,
    pub(super) bytes: Vec<u8>,
}

impl Shim {
    /// Another member wants a flow to a name. What comes twice is one attempt.
    pub(super) fn introduced(&mut self, now: Instant, introduction: Introduction) -> Result<(), Refusal> {
        if let Some(ids) = introduction.moves {
            return self.introduced_again(now, introduction, ids);
        }
        let attempt = (introduction.asker, introduction.attempt);
        if self.by_attempt.contains_key(&attempt) {
            return Ok(());
        }
        if let Some(refusal) = self.no_meeting(&introduction.name) {
            return Err(refusal);
        }
        let port = self.ports.choose(now, self.settings.sp, &mut self.rng).ok_or(Refusal::Exhausted)?;
        let server = self.member.as_ref().and_then(|member| member.server()).ok_or(Refusal::Exhausted)?;
        // The request that will come; until then nobody knows from where.
        let request = RequestKey { from: server, client: Some(introduction.attempt), name: introduction.name.clone() };
        let key = self.next_key();
        let mut flow = self.accepting_flow(now, request, CLASSIC_SOURCE.to_owned(), Qos::raw());
        flow.request = None;
        flow.theirs = introduction.attempt;
        flow.state = State::Meeting(Meeting { deadline: now + PATIENCE, next: now + PATIENCE, tries: 0 });
        flow.tallied = flow.state.phase();
        let round = introduction.round;
        flow.met = Some(Box::new(Met { round, introduction: Some(introduction), ..Met::default() }));
        flow.begin(Cause::Introduced);
        self.insert(key, flow);
        self.by_attempt.insert(attempt, key);
        self.settle(key);
        self.out(Output::Open { key, port, watch: true });
        Ok(())
    }

    /// The accepting side's socket is open, or not.
    pub(super) fn met_opened(&mut self, now: Instant, key: Key, result: Result<(), OpenError>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Meeting(meeting) = &mut flow.state else { return };
        meeting.tries += 1;
        let (tries, deadline) = (meeting.tries, meeting.deadline);
        let (ours, local) = (flow.ours, flow.local);
        let introduction = flow.met.as_ref().and_then(|met| met.introduction.clone());
        let port = match result {
            Err(OpenError::PortInUse) if tries < MOST_TRIES => self.ports.choose(now, self.settings.sp, &mut self.rng),
            _ => None,
        };
        let mut setup = if result.is_ok() { self.setup(ours, local, deadline) } else { None };
        if let Some(setup) = &mut setup {
            self.ask_router(now, key, setup);
        }
        match (port, setup, introduction) {
            (Some(port), ..) => self.out(Output::Open { key, port, watch: true }),
            (None, Some(setup), Some(introduction)) => {
                if let Some(met) = self.flows.get_mut(&key).and_then(|flow| flow.met.as_mut()) {
                    met.attempt = Some(Attempt::meet(now, setup, introduction));
                }
                self.attempt_steps(now, key);
            }
            _ => {
                self.close(now, key);
                self.decline(key, Refusal::Exhausted);
                if let Some(flow) = self.flows.get_mut(&key) {
                    flow.go(Cause::NoSocket, State::Over);
                }
            }
        }
    }

    fn decline(&mut self, key: Key, refusal: Refusal) {
        let introduction =
            self.flows.get(&key).and_then(|flow| flow.met.as_ref()).and_then(|met| met.introduction.as_ref());
        if let (Some(introduction), Some(member)) = (introduction, &mut self.member) {
            member.decline(introduction.attempt, refusal);
        }
    }

    /// The accepting side has no path, or no request came over it.
    pub(super) fn not_met(&mut self, now: Instant, key: Key) {
        self.counters.count(Reason::PathsNotFound);
        self.leave_meeting(now, key, Cause::NoPath);
    }

    pub(super) fn leave_meeting(&mut self, now: Instant, key: Key, cause: Cause) {
        self.close(now, key);
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.go(cause, State::Over);
        }
    }

    /// A datagram at the accepting side's socket that is no hello: the request, or it again.
    pub(super) fn handle_met_request(&mut self, now: Instant, key: Key, from: SocketAddr, bytes: &[u8]) {
        let request = match Request::decode(bytes) {
            Ok(request) => request,
            Err(malformed) => return self.counters.count(malformed),
        };
        let Request::Extended(name, extension) = request else { return self.counters.count(Reason::Spoofed) };
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(met) = &mut flow.met else { return };
        let known = met.introduction.as_ref().is_some_and(|introduction| {
            (introduction.asker, introduction.attempt) == (extension.host, extension.client)
        });
        if !known || name != flow.name || bytes.len() < DATAGRAM {
            return self.counters.count(Reason::Spoofed);
        }
        match &flow.state {
            State::Meeting(_) => {
                // Only from where a sealed hello came.
                let Some(won) = met.attempt.as_mut().and_then(|attempt| attempt.take(from)) else {
                    return self.counters.count(Reason::Spoofed);
                };
                (flow.way, flow.peer) = (Some(won.way), from);
                self.keep_mapping(key, won);
                self.counters.count(Reason::Requests);
                self.met_request(now, key, from, extension);
            }
            State::Waiting(_) | State::Accepting(_) if from == flow.peer => {
                self.counters.count(Reason::Duplicate);
                self.answer_flow(key, Verdict::Pending);
            }
            State::Refusing(Refusing { bytes, .. }) if from == flow.peer => {
                let bytes = bytes.clone();
                self.counters.count(Reason::Duplicate);
                self.out(Output::SendFlow { key, to: Some(from), bytes });
            }
            _ => self.counters.count(Reason::Spoofed),
        }
        self.settle(key);
    }

    /// The request came over the path that was found: from here on it is a request like any other.
    fn met_request(&mut self, now: Instant, key: Key, from: SocketAddr, extension: Extension) {
        self.end_search(now, key);
        self.note_listens(key);
        let token = self.token();
        let deadline = match extension.deadline_ms {
            0 => super::server::DEFAULT_DEADLINE,
            ms => Duration::from_millis(ms.into()).min(LONGEST_TIMEOUT),
        };
        let margin = (deadline / 8).min(Duration::from_millis(500));
        let full = self.waiting() >= self.settings.max_pending || self.is_crowded(from.ip());
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let request = RequestKey { from, client: Some(extension.client), name: flow.name.clone() };
        flow.asked = (extension.qos.cube != Cube::Raw).then(|| Box::new(Asked::new(&flow.name, &extension)));
        flow.of = Some(Peer { host: extension.host, boot: extension.boot });
        flow.source = extension.source;
        flow.qos = extension.qos;
        flow.data = extension.data;
        flow.path.direct = true;
        flow.shared = Some(Shared::asked_until(now + deadline));
        flow.request = Some(request.clone());
        let waiting = Waiting { deadline: now + deadline - margin, token, echoed: false, proven: true, tries: 0 };
        flow.go(Cause::Request, State::Waiting(waiting));
        self.by_request.insert(request.clone(), key);
        self.by_client.insert((from.ip(), flow.theirs), key);
        if full {
            self.counters.count(Reason::Exhausted);
            let failure = proto::v1::Failure::new(proto::v1::FailureKind::Exhausted, "no room");
            return self.refuse(now, key, Cause::ProgramRefused, failure);
        }
        self.answer_flow(key, Verdict::Pending);
        self.tell_irmd(now, key);
    }

    /// A flow that met is refused: its socket stays for a moment and says so again.
    pub(super) fn keep_refusing(&mut self, now: Instant, key: Key, cause: Cause, bytes: Vec<u8>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let to = Some(flow.peer);
        flow.go(cause, State::Refusing(Refusing { until: now + REFUSING, bytes: bytes.clone() }));
        self.counters.count(Reason::Answers);
        self.out(Output::SendFlow { key, to, bytes });
    }

    /// Its time is over.
    pub(super) fn refusing_timeout(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get(&key) else { return };
        if let State::Refusing(Refusing { until, .. }) = &flow.state
            && *until <= now
        {
            self.leave_meeting(now, key, Cause::Deadline);
        }
    }

    /// Where a flow that met answers its peer from: its own socket.
    pub(super) fn answer_from(&mut self, key: Key, to: SocketAddr, bytes: Vec<u8>) {
        let met = self.flows.get(&key).is_some_and(|flow| flow.met.is_some());
        if met {
            self.counters.count(Reason::Answers);
            self.out(Output::SendFlow { key, to: Some(to), bytes });
        } else {
            self.answer(to, bytes);
        }
    }

    pub(super) fn forget_attempt(&mut self, met: &Met) {
        if let Some(introduction) = &met.introduction {
            self.by_attempt.remove(&(introduction.asker, introduction.attempt));
        }
    }
}

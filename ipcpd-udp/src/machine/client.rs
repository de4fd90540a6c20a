//! The asking side: from `flow_alloc` to a socket that waits for its program.

use std::time::{Duration, Instant};

use proto::shim::{Asked, DATAGRAM, Extension, MAX_DATA, Request};
use proto::v1::{EndReason, Failure, FailureKind};
use proto::{Cube, FlowId, Name, WireId};
use rand_chacha::rand_core::Rng;

use super::directory::Target;
use super::failures::{no_port, not_opened};
use super::finding::{Others, share};
use super::flow::{Asking, Flow, Joining, Opening, State, Telling};
use super::liveness::Vital;
use super::open::{Knocking, Path};
use super::output::{Ask, Key, OpenError, Output, Unreachable};
use super::roaming::Place;
use super::table::{Cause, Phase};
use super::{Reason, Shim};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a program waits for its flow.
pub(super) fn timeout_of(ask: &Ask) -> Duration {
    if ask.timeout.is_zero() { DEFAULT_TIMEOUT } else { ask.timeout.min(LONGEST_TIMEOUT) }
}

pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Before the second request to a host of unknown kind: a classic shim makes another flow of each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Requests to a host of unknown kind before the pause grows. With three in ten datagrams lost each way, one round trip
/// in two is: ten of them leave one allocation in a thousand unanswered.
const STEADY: u32 = 10;
/// The same for a host known to be extended, which tells duplicates apart: half as long again as its round trip.
pub(super) const FIRST_PAUSE_KNOWN: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE_KNOWN: Duration = Duration::from_millis(500);
/// Ports tried on the word of the system that one is in use.
const MOST_TRIES: u32 = 64;
/// Unreachables in a row that end the asking. One alone may be forged or come from a shim in mid-restart.
const UNREACHABLES: u32 = 2;

impl Shim {
    pub(super) fn check(&self, ask: &Ask) -> Result<(), Failure> {
        let fail = |kind, text: String| Err(Failure::new(kind, text));
        if self.stopping.is_some() {
            return fail(
                FailureKind::IpcpDown,
                format!("the IPCP of layer {} is stopping; try later", self.settings.layer),
            );
        }
        if self.by_id.contains_key(&ask.flow) || self.finding.has(ask.flow) {
            return fail(FailureKind::AlreadyExists, format!("flow {} exists already; ask with a new id", ask.flow));
        }
        if ask.data.len() > MAX_DATA {
            let text = format!("{} bytes of data do not fit a request; send at most {MAX_DATA}", ask.data.len());
            return fail(FailureKind::Invalid, text);
        }
        if let Err(error) = Name::new(&ask.source)
            && !ask.source.is_empty()
        {
            return fail(FailureKind::Invalid, format!("{:?} is no source name: {error}", ask.source));
        }
        if self.full() {
            let text = format!("{} flows are open, no more fit; deallocate some", self.flows.len());
            return fail(FailureKind::Exhausted, text);
        }
        Ok(())
    }

    /// Goes on once the peer's address is known, and those of `others` that have the name, too.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        key: Key,
        ask: Ask,
        target: Target,
        others: Vec<Target>,
    ) -> Result<(), Failure> {
        let until = now + timeout_of(&ask);
        let timeout = share(until.saturating_duration_since(now), others.len());
        let port = self.ports.choose(now, self.settings.cp, &mut self.rng).ok_or_else(|| no_port(self.settings.cp))?;
        let mut flow = Flow {
            id: Some(ask.flow),
            name: ask.name,
            source: ask.source,
            qos: ask.qos,
            since: now,
            accepting: false,
            classic: false,
            ours: self.wire_id(),
            theirs: WireId(0),
            of: None,
            starts: Vec::new(),
            peer: target.at,
            control: target.at,
            local: None,
            owner: ask.owner,
            sdu_limit: 0,
            data: ask.data,
            heard: Vec::new(),
            asked: None,
            requests: 0,
            taken: None,
            request: None,
            answered: None,
            swap_at: None,
            keepalive: None,
            path: Path::default(),
            shared: None,
            met: None,
            way: None,
            moving: None,
            place: Place::default(),
            vital: Vital::default(),
            others: Others { key: target.key, hosts: others, until: Some(until) },
            state: State::Opening(Opening { deadline: now + timeout, timeout, tries: 1 }),
            armed: None,
            tallied: Phase::Opening,
            #[cfg(test)]
            visited: Vec::new(),
        };
        flow.begin(Cause::FlowAlloc);
        self.insert(key, flow);
        self.settle(key);
        self.out(Output::Open { key, port, watch: true });
        Ok(())
    }

    pub(super) fn cp_opened(&mut self, now: Instant, key: Key, result: Result<(), OpenError>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Opening(opening) = flow.state else { return };
        match result {
            Ok(()) if flow.met.is_some() => self.begin_meeting(now, key, opening),
            Ok(()) => {
                let (pause, longest, steady) = match self.peers.find(flow.peer) {
                    None => (FIRST_PAUSE, LONGEST_PAUSE, STEADY),
                    Some(known) => {
                        let pause = (known.round_trip * 3 / 2).clamp(FIRST_PAUSE_KNOWN, Duration::from_secs(1));
                        (pause, LONGEST_PAUSE_KNOWN.max(pause), 0)
                    }
                };
                let Opening { deadline, timeout, .. } = opening;
                let asking = Asking {
                    deadline,
                    timeout,
                    asked: 0,
                    next: now,
                    pause,
                    longest,
                    steady,
                    unreachable: 0,
                    recovering: false,
                    cookie: Vec::new(),
                };
                flow.go(Cause::Opened, State::Asking(asking));
                self.request(now, key);
            }
            Err(OpenError::PortInUse) if opening.tries < MOST_TRIES => {
                flow.state = State::Opening(Opening { tries: opening.tries + 1, ..opening });
                match self.ports.choose(now, self.settings.cp, &mut self.rng) {
                    Some(port) => self.out(Output::Open { key, port, watch: true }),
                    None => self.fail(now, key, Cause::NoSocket, no_port(self.settings.cp)),
                }
            }
            Err(error) => {
                let failure = not_opened(&error, self.settings.cp, self.settings.listen);
                self.fail(now, key, Cause::NoSocket, failure);
            }
        }
    }

    /// Sends the request, again if it was sent before, and says when next.
    pub(super) fn request(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let promised = matches!(flow.state, State::Promised(_));
        let (State::Asking(asking) | State::Promised(asking)) = &mut flow.state else { return };
        asking.asked += 1;
        flow.requests += 1;
        let jitter = self.rng.next_u32() % 201;
        asking.next = now + asking.pause * (900 + jitter) / 1000;
        if asking.asked >= asking.steady {
            asking.pause = (asking.pause * if promised { 3 } else { 4 } / 2).min(asking.longest);
        }
        // Said once: where no answer comes, it may have become wrong.
        let direct = asking.asked == 1 && self.peers.find(flow.peer).is_some_and(|known| known.direct);
        let extension = Extension {
            host: self.settings.host,
            boot: self.settings.boot,
            client: flow.ours,
            source: flow.source.clone(),
            qos: flow.qos,
            deadline_ms: u32::try_from(asking.timeout.as_millis()).unwrap_or(u32::MAX),
            listen_port: self.settings.listen.port(),
            direct,
            data: flow.data.clone(),
            cookie: asking.cookie.clone(),
        };
        if flow.qos.cube != Cube::Raw && flow.asked.is_none() {
            flow.asked = Some(Box::new(Asked::new(&flow.name, &extension)));
        }
        self.counters.count(if asking.asked == 1 { Reason::RequestsSent } else { Reason::Retransmissions });
        let bytes = Request::Extended(flow.name.clone(), extension).encode();
        debug_assert_eq!(bytes.len(), DATAGRAM);
        let to = Some(flow.peer);
        self.out(Output::SendFlow { key, to, bytes });
    }

    /// The network says that a datagram did not arrive, or the system that it could not be sent.
    pub fn handle_unreachable(&mut self, now: Instant, key: Key, what: Unreachable) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        // Hellos went to addresses that others named; what the network says of them is no word about the peer.
        let meeting = flow.met.is_some() && flow.id.is_some() && !matches!(flow.state, State::Held);
        if meeting || flow.moving.as_ref().is_some_and(|moving| moving.is_under_way()) {
            return self.counters.count(Reason::Unreachable);
        }
        let (State::Asking(asking) | State::Promised(asking)) = &mut flow.state else {
            // A keep-alive met a closed port, as an SDU of the program may do.
            return if let Some(id) = flow.id {
                self.suspect(now, id)
            };
        };
        self.counters.count(Reason::Unreachable);
        asking.unreachable += 1;
        if asking.unreachable >= UNREACHABLES {
            let (peer, asked) = (flow.peer, asking.asked);
            let text = match what {
                Unreachable::Port => format!(
                    "port closed: no shim listens on {peer}, which the directory names for {}; is ipcpd-udp running there?",
                    flow.name
                ),
                Unreachable::Host => format!(
                    "the network has no way to {peer}, which the directory names for {}; check the address and the route",
                    flow.name
                ),
            };
            let failure = Failure { asked, ..Failure::new(FailureKind::TimedOut, text) };
            self.fail(now, key, Cause::Unreachable, failure);
        }
        self.settle(key);
    }

    pub(super) fn client_timeout(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get(&key) else { return };
        let promised = matches!(flow.state, State::Promised(_));
        let (deadline, asked, recovering, cookie) = match &flow.state {
            State::Asking(asking) | State::Promised(asking) => {
                (asking.deadline, asking.asked, asking.recovering, !asking.cookie.is_empty())
            }
            State::Opening(Opening { deadline, .. }) | State::Joining(Joining { deadline, .. }) if *deadline <= now => {
                let failure = Failure::new(FailureKind::Internal, "the flow's socket was not ready in time; try again");
                return self.fail(now, key, Cause::NoSocket, failure);
            }
            _ => return,
        };
        if now < deadline {
            return self.request(now, key);
        }
        let failure = if promised {
            let text = format!("{} is known at {}, but no program took the flow in time", flow.name, flow.peer);
            Failure::new(FailureKind::NobodyAccepts, text)
        } else if recovering {
            let text = format!("the shim at {} restarted and does not know {} yet; try again", flow.peer, flow.name);
            Failure::new(FailureKind::TimedOut, text)
        } else if cookie {
            let text = format!(
                "the shim at {} answered for {} at first and then no more (asked {asked} times): datagrams are lost on the \
                 way, or it has too much to do; try again",
                flow.peer, flow.name
            );
            Failure::new(FailureKind::TimedOut, text)
        } else {
            let text = format!(
                "{} did not answer for {} (asked {asked} times); is that host up and its UDP port {} open?",
                flow.peer.ip(),
                flow.name,
                flow.peer.port()
            );
            Failure::new(FailureKind::TimedOut, text)
        };
        self.fail(now, key, Cause::Deadline, Failure { asked, ..failure });
    }

    /// Nobody waits for the answer of `flow_alloc` any more.
    pub fn cancel(&mut self, now: Instant, flow: FlowId) {
        self.stop_looking(flow);
        let Some(&key) = self.by_id.get(&flow) else { return };
        let Some(flow) = self.flows.get(&key) else { return };
        let phase = flow.state.phase();
        if matches!(
            phase,
            Phase::Opening | Phase::Meeting | Phase::Asking | Phase::Promised | Phase::Knocking | Phase::Joining
        ) {
            let failure = Failure::new(FailureKind::Internal, "the caller no longer waits for the flow");
            self.fail(now, key, Cause::Cancelled, failure);
            self.settle(key);
        }
    }

    pub(super) fn joined(&mut self, now: Instant, key: Key, result: Result<(), String>) {
        if let Err(error) = result {
            let text = format!("the flow's socket could not be connected: {error}; try again");
            return self.fail(now, key, Cause::NoSocket, Failure::new(FailureKind::Internal, text));
        }
        let fresh = self.token();
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Joining(Joining { told, .. }) = flow.state else { return };
        let token = told.unwrap_or(fresh);
        flow.go(Cause::Connected, State::Offered);
        flow.keepalive(now);
        flow.data = Vec::new();
        let data = std::mem::take(&mut flow.heard);
        let (peer, classic, host_key, asked) = (flow.peer, flow.classic, flow.others.key, flow.requests);
        let binding = flow.asked.take().and_then(|asked| {
            let of = flow.of?;
            Some(asked.answered(of.host, of.boot, flow.theirs, &data))
        });
        self.offer(key, token, binding);
        if told.is_none() {
            self.out(Output::Allocated { key, token, peer, data, classic, host_key, asked });
        }
        self.pair(now, key);
    }

    /// Asking has come to nothing. A peer that knows of it and is extended is told.
    pub(super) fn fail(&mut self, now: Instant, key: Key, cause: Cause, failure: Failure) {
        self.close(now, key);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (peer_knows, told) = match flow.state {
            State::Promised(_) => (matches!(cause, Cause::Deadline | Cause::Cancelled), None),
            State::Knocking(Knocking { told, .. }) => (matches!(cause, Cause::Deadline | Cause::Cancelled), told),
            State::Joining(Joining { told, .. }) => (!flow.classic, told),
            _ => (false, None),
        };
        let id = flow.id.take();
        if let Some(id) = id {
            self.by_id.remove(&id);
        }
        let next = if peer_knows { State::Telling(Telling { told: 0, next: now, died: true }) } else { State::Over };
        flow.go(cause, next);
        match (told, id) {
            (Some(token), Some(flow)) => {
                self.out(Output::Withdraw { token, failure });
                self.out(Output::Ended { flow, reason: EndReason::NeverTaken });
            }
            _ => {
                if let Some(failure) = self.ask_another(now, key, id, failure) {
                    self.out(Output::Failed { key, failure });
                }
            }
        }
        self.ending_timeout(now, key);
    }
}

//! The asking side: from `flow_alloc` to a socket that waits for its program.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::shim::{Answer, DATAGRAM, Extension, MAX_DATA, Request, VERSION, Verdict};
use proto::v1::{Failure, FailureKind};
use proto::{Cube, FlowId, Name, WireId};
use rand_chacha::rand_core::Rng;

use super::directory::Place;
use super::failures::{no_port, not_opened, refused, unknown};
use super::flow::{Asking, Flow, Joining, Opening, State, Telling};
use super::liveness::{Peer, Vital};
use super::open::{Acceptance, Knocking, Path};
use super::output::{Ask, Filter, Key, OpenError, Output, Unreachable};
use super::peers::Known;
use super::table::{Cause, Phase};
use super::{Reason, Shim};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Before the second request to a host of unknown kind: a classic shim makes another flow of each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Requests to a host of unknown kind before the pause grows. With three in ten datagrams lost each way, one round trip
/// in two is: ten of them leave one allocation in a thousand unanswered.
const STEADY: u32 = 10;
/// The same for a host known to be extended, which tells duplicates apart: half as long again as its round trip.
const FIRST_PAUSE_KNOWN: Duration = Duration::from_millis(100);
const LONGEST_PAUSE_KNOWN: Duration = Duration::from_millis(500);
/// After PENDING, growing by half: the acceptance may be lost.
const FIRST_POLL: Duration = Duration::from_millis(300);
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// Ports tried on the word of the system that one is in use.
const MOST_TRIES: u32 = 64;
/// Late echoes of a classic shim are kept from the program this long.
pub(super) const LATE_ECHOES: Duration = Duration::from_secs(3);
/// Unreachables in a row that end the asking. One alone may be forged or come from a shim in mid-restart.
const UNREACHABLES: u32 = 2;

impl Shim {
    /// A program of this host asks for a flow. [`Output::Allocated`] or [`Output::Failed`] follows, or this fails at once.
    pub fn flow_alloc(&mut self, now: Instant, ask: Ask) -> Result<Key, Failure> {
        self.check(&ask)?;
        let peer = match self.directory.find(&ask.name, self.settings.listen) {
            Place::At(peer) => peer,
            Place::Here => return Err(unknown(&ask.name, "serves it on this host only: its flows are local flows")),
            Place::Unknown => {
                return Err(unknown(
                    &ask.name,
                    "has no host for it: register it, or add a row with --host NAME=ADDRESS",
                ));
            }
        };
        self.ask(now, ask, peer)
    }

    fn check(&self, ask: &Ask) -> Result<(), Failure> {
        let fail = |kind, text: String| Err(Failure::new(kind, text));
        if self.stopping.is_some() {
            return fail(
                FailureKind::IpcpDown,
                format!("the IPCP of layer {} is stopping; try later", self.settings.layer),
            );
        }
        if self.by_id.contains_key(&ask.flow) {
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

    /// Goes on once the peer's address is known.
    fn ask(&mut self, now: Instant, ask: Ask, peer: SocketAddr) -> Result<Key, Failure> {
        let timeout = if ask.timeout.is_zero() { DEFAULT_TIMEOUT } else { ask.timeout.min(LONGEST_TIMEOUT) };
        let key = self.next_key();
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
            peer,
            control: peer,
            local: None,
            owner: ask.owner,
            sdu_limit: 0,
            data: ask.data,
            request: None,
            answered: None,
            swap_at: None,
            keepalive: None,
            path: Path::default(),
            vital: Vital::default(),
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
        Ok(key)
    }

    pub(super) fn cp_opened(&mut self, now: Instant, key: Key, result: Result<(), OpenError>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Opening(opening) = flow.state else { return };
        match result {
            Ok(()) => {
                let (pause, longest, steady) = match self.peers.find(flow.peer) {
                    None => (FIRST_PAUSE, LONGEST_PAUSE, STEADY),
                    Some(known) => {
                        let pause = (known.round_trip * 3 / 2).clamp(FIRST_PAUSE_KNOWN, LONGEST_POLL);
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
    fn request(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let promised = matches!(flow.state, State::Promised(_));
        let (State::Asking(asking) | State::Promised(asking)) = &mut flow.state else { return };
        asking.asked += 1;
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
        self.counters.count(if asking.asked == 1 { Reason::RequestsSent } else { Reason::Retransmissions });
        let bytes = Request::Extended(flow.name.clone(), extension).encode();
        debug_assert_eq!(bytes.len(), DATAGRAM);
        let to = Some(flow.peer);
        self.out(Output::SendFlow { key, to, bytes });
    }

    /// A datagram arrived on cp.
    pub(super) fn handle_answer(&mut self, now: Instant, key: Key, from: SocketAddr, bytes: &[u8]) {
        let Some(flow) = self.flows.get_mut(&key) else { return self.counters.count(Reason::Late) };
        if !matches!(flow.state, State::Asking(_) | State::Promised(_) | State::Knocking(_)) {
            return self.counters.count(Reason::Late);
        }
        if from.ip() != flow.peer.ip() {
            return self.counters.count(Reason::Stranger);
        }
        if bytes.first() == Some(&0) {
            self.handle_opened(now, key, from, bytes);
            return self.settle(key);
        }
        let answer = match Answer::decode(bytes, &flow.name) {
            Ok(answer) => answer,
            Err(malformed) => return self.counters.count(malformed),
        };
        let (ours, from_listen) = (flow.ours, from == flow.peer);
        match answer {
            Answer::ClassicEcho => self.classic_echo(now, key, from),
            Answer::Returned(client) if client == ours => self.classic_echo(now, key, from),
            Answer::Extended { host, boot, client, server, verdict: Verdict::Accepted, data, server_port, .. }
                if client == ours =>
            {
                if server == WireId(0) {
                    return self.counters.count(Reason::Late);
                }
                self.measured(now, key).direct |= !from_listen;
                let accepted = Acceptance { server, of: Peer { host, boot }, data };
                match (from_listen, server_port) {
                    (false, _) => self.accepted_by_peer(key, from, accepted),
                    (true, Some(port)) => self.aside(now, key, port, accepted),
                    (true, None) => self.counters.count(Reason::Late),
                }
            }
            Answer::Extended { client, verdict, reason, cookie, .. } if client == ours && from_listen => {
                self.measured(now, key);
                self.undecided(now, key, verdict, &reason, cookie);
            }
            Answer::OtherVersion { version, client } if client == ours && from_listen => {
                let text = format!(
                    "the shim at {from} speaks version {version}, this one version {VERSION}; update the older of the two"
                );
                self.fail(now, key, Cause::Refused, Failure::new(FailureKind::Invalid, text));
            }
            Answer::Returned(_) | Answer::Extended { .. } | Answer::OtherVersion { .. } => {
                self.counters.count(Reason::Spoofed);
            }
        }
        self.settle(key);
    }

    /// The peer gave an extended answer; how long the first one took.
    fn measured(&mut self, now: Instant, key: Key) -> &mut Known {
        let flow = self.flows.get(&key);
        let first = flow.is_some_and(|flow| matches!(&flow.state, State::Asking(asking) if asking.asked == 1));
        let (shim, since) = flow.map_or((self.settings.listen, now), |flow| (flow.peer, flow.since));
        let known = self.peers.remember(shim);
        if first {
            known.measured(now.saturating_duration_since(since));
        }
        known
    }

    /// Acceptance from sp.
    fn accepted_by_peer(&mut self, key: Key, from: SocketAddr, accepted: Acceptance) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let deadline = match flow.state {
            State::Asking(Asking { deadline, .. }) | State::Promised(Asking { deadline, .. }) => deadline,
            State::Knocking(Knocking { deadline, .. }) => deadline,
            _ => return,
        };
        flow.theirs = accepted.server;
        flow.of = Some(accepted.of);
        flow.data = accepted.data;
        self.join(key, Cause::Accepted, deadline, from);
    }

    fn classic_echo(&mut self, now: Instant, key: Key, from: SocketAddr) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        // A peer that has given an extended answer to this very request is no classic shim: someone strips extensions.
        // And a classic shim echoes from sp, never from where it listens.
        if matches!(flow.state, State::Promised(_) | State::Knocking(_)) || from == flow.peer {
            return self.counters.count(Reason::Spoofed);
        }
        if flow.qos.cube != Cube::Raw {
            let text = format!(
                "the peer at {from} is a classic shim, which carries raw flows only; ask for QoS raw instead of {}",
                flow.qos.cube.as_str()
            );
            return self.fail(now, key, Cause::Refused, Failure::new(FailureKind::UnsupportedQos, text));
        }
        let (State::Asking(Asking { deadline, .. }) | State::Promised(Asking { deadline, .. })) = flow.state else {
            return self.counters.count(Reason::Spoofed);
        };
        flow.classic = true;
        flow.swap_at = Some(now + LATE_ECHOES);
        flow.data = Vec::new();
        self.peers.forget(flow.peer);
        self.join(key, Cause::Accepted, deadline, from);
    }

    /// The flow's way is known: its socket is to be connected.
    pub(super) fn join(&mut self, key: Key, cause: Cause, deadline: Instant, peer: SocketAddr) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.peer = peer;
        flow.go(cause, State::Joining(Joining { deadline }));
        let (name, ours) = (flow.name.clone(), flow.ours);
        let filter = if flow.classic { Filter::NoEchoes(name, ours) } else { Filter::NoAnswers(name, ours) };
        self.out(Output::Connect { key, peer, filter });
    }

    /// An extended answer from the listen port.
    fn undecided(&mut self, now: Instant, key: Key, verdict: Verdict, reason: &str, cookie: Vec<u8>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (State::Asking(asking) | State::Promised(asking)) = &mut flow.state else { return };
        asking.unreachable = 0;
        match verdict {
            Verdict::Pending => {
                if let State::Asking(asking) = &flow.state {
                    let asking = Asking {
                        next: now + FIRST_POLL,
                        pause: FIRST_POLL * 3 / 2,
                        longest: LONGEST_POLL,
                        steady: 0,
                        ..asking.clone()
                    };
                    flow.go(Cause::Pending, State::Promised(asking));
                }
            }
            // Once per cookie: whoever forges them gets no flood out of us.
            Verdict::Cookie if !cookie.is_empty() && cookie != asking.cookie => {
                asking.cookie = cookie;
                self.request(now, key);
            }
            Verdict::Cookie | Verdict::Recovering | Verdict::Accepted => {}
            refusal => {
                let failure = refused(refusal, reason, flow.name.as_str(), flow.peer);
                self.fail(now, key, Cause::Refused, failure);
            }
        }
    }

    /// The network says that a datagram did not arrive, or the system that it could not be sent.
    pub fn handle_unreachable(&mut self, now: Instant, key: Key, what: Unreachable) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
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
        let (deadline, asked, promised) = match &flow.state {
            State::Asking(asking) => (asking.deadline, asking.asked, false),
            State::Promised(asking) => (asking.deadline, asking.asked, true),
            State::Opening(Opening { deadline, .. }) | State::Joining(Joining { deadline }) if *deadline <= now => {
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
        let Some(&key) = self.by_id.get(&flow) else { return };
        let Some(flow) = self.flows.get(&key) else { return };
        let phase = flow.state.phase();
        if matches!(phase, Phase::Opening | Phase::Asking | Phase::Promised | Phase::Knocking | Phase::Joining) {
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
        let token = self.token();
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.go(Cause::Connected, State::Offered);
        flow.keepalive(now);
        let data = std::mem::take(&mut flow.data);
        let (peer, classic) = (flow.peer, flow.classic);
        self.offer(key, token);
        self.out(Output::Allocated { key, token, peer, data, classic });
        self.pair(now, key);
    }

    /// Asking has come to nothing. A peer that knows of it and is extended is told.
    pub(super) fn fail(&mut self, now: Instant, key: Key, cause: Cause, failure: Failure) {
        self.close(now, key);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let peer_knows = match flow.state {
            State::Promised(_) | State::Knocking(_) => matches!(cause, Cause::Deadline | Cause::Cancelled),
            State::Joining(_) => !flow.classic,
            _ => false,
        };
        if let Some(id) = flow.id.take() {
            self.by_id.remove(&id);
        }
        let next = if peer_knows { State::Telling(Telling { told: 0, next: now, died: true }) } else { State::Over };
        flow.go(cause, next);
        self.out(Output::Failed { key, failure });
        self.ending_timeout(now, key);
    }
}

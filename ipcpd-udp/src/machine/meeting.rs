//! Flows through a rendezvous: from the socket's first word to the server until there is a path. From there on they are
//! allocated like any other: the request goes over that path, to the other flow's socket in place of a listen port.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::rendezvous::{Refusal, is_ours};
use proto::v1::{Failure, FailureKind};
use proto::{HostId, WireId};

use super::client::{FIRST_PAUSE_KNOWN, LONGEST_PAUSE_KNOWN};
use super::directory::Target;
use super::flow::{Asking, Opening, State};
use super::output::{Ask, Key, Output};
use super::rendezvous::attempt::{Attempt, ROUNDS, Setup, Trouble};
use super::rendezvous::nat;
use super::rendezvous::punch::{Way, Won};
use super::session::NOT_YET;
use super::table::Cause;
use super::{Reason, Shim};

/// A second round is worth while only if so much time is left.
const WORTH_WHILE: Duration = Duration::from_millis(500);

/// A flow that is to come about, or came about, through a rendezvous.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// None before the asking side is a member.
    pub(super) attempt: Option<Attempt>,
    /// Counts from 0.
    pub(super) round: u8,
    /// Where the peer's listen port may be; the first is the likeliest.
    pub(super) listens: Vec<SocketAddr>,
    /// Accepting side: what it was introduced for.
    pub(super) introduction: Option<proto::rendezvous::Introduction>,
}

/// In this state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meeting {
    pub(super) deadline: Instant,
    pub(super) next: Instant,
    /// Accepting side: ports tried.
    pub(super) tries: u32,
}

impl Shim {
    /// Asks through the rendezvous: nothing else knows the name.
    pub(super) fn ask_rendezvous(&mut self, now: Instant, key: Key, ask: Ask, round: u8) -> Result<(), Failure> {
        let server = self.member.as_ref().and_then(|member| member.server());
        // No address to send to yet: the socket waits until there is one.
        let at = server.unwrap_or(self.settings.listen);
        self.ask(now, key, ask, Target { at, key: None }, Vec::new())?;
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.met = Some(Box::new(Met { round, ..Met::default() }));
        }
        Ok(())
    }

    /// The asking side's socket is open.
    pub(super) fn begin_meeting(&mut self, now: Instant, key: Key, opening: Opening) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let deadline = opening.deadline;
        flow.go(Cause::Opened, State::Meeting(Meeting { deadline, next: now, tries: 0 }));
        self.meeting_timeout(now, key);
    }

    /// What a socket begins its attempt with; nothing before there is a server.
    pub(super) fn setup(&self, ours: WireId, local: Option<SocketAddr>, deadline: Instant) -> Option<Setup> {
        let member = self.member.as_ref()?;
        Some(Setup {
            session: member.session().clone(),
            server: member.server()?,
            relay: member.relay(),
            ours,
            locals: local.into_iter().collect(),
            cookie: member.cookie().to_vec(),
            nat: member.nat(),
            mapped: self.mapped_shim(),
            hold: None,
            round_trip: member.round_trip(),
            deadline,
        })
    }

    /// A flow in this state is to be looked at.
    pub(super) fn meeting_timeout(&mut self, now: Instant, key: Key) {
        let failure = self.not_joined();
        let Some(flow) = self.flows.get(&key) else { return };
        let State::Meeting(meeting) = flow.state else { return };
        let (ours, local, asking) = (flow.ours, flow.local, !flow.accepting);
        let unbegun = flow.met.as_ref().is_some_and(|met| met.attempt.is_none());
        if unbegun && asking {
            if let Some(failure) = failure {
                let said = matches!(failure.kind(), FailureKind::NotPermitted | FailureKind::Exhausted);
                if now >= meeting.deadline || said {
                    return self.fail(now, key, Cause::NoPath, failure);
                }
                if let Some(flow) = self.flows.get_mut(&key) {
                    flow.state = State::Meeting(Meeting { next: now + NOT_YET, ..meeting });
                }
                return;
            }
            let Some(mut setup) = self.setup(ours, local, meeting.deadline) else { return };
            self.ask_router(now, key, &mut setup);
            if let Some(flow) = self.flows.get_mut(&key)
                && let Some(met) = &mut flow.met
            {
                let name = flow.name.clone();
                met.attempt = Some(Attempt::ask(now, setup, name, HostId(0), met.round));
            }
        }
        if let Some(attempt) = self.attempt(key) {
            attempt.handle_timeout(now);
        }
        self.attempt_steps(now, key);
    }

    fn attempt(&mut self, key: Key) -> Option<&mut Attempt> {
        self.flows.get_mut(&key)?.met.as_mut()?.attempt.as_mut()
    }

    /// A datagram at the socket of a flow that has met or is to meet. `true`: it was about that.
    pub(super) fn handle_meeting(&mut self, now: Instant, key: Key, from: SocketAddr, bytes: &[u8]) -> bool {
        let Some(flow) = self.flows.get_mut(&key) else { return false };
        let Some(met) = &mut flow.met else { return false };
        if !is_ours(bytes) {
            return flow.accepting && {
                self.handle_met_request(now, key, from, bytes);
                true
            };
        }
        if let Some(attempt) = &mut met.attempt {
            if let Err(malformed) = attempt.handle(now, from, bytes, &mut self.rng) {
                self.counters.count(malformed);
            }
            self.attempt_steps(now, key);
        }
        self.settle(key);
        true
    }

    /// From a flow's socket; to addresses for which only the other side's word stands, not more than is good for whoever is there.
    pub(super) fn send_hellos(&mut self, now: Instant, key: Key, sends: Vec<(SocketAddr, Vec<u8>, bool)>) {
        for (to, bytes, guess) in sends {
            if guess && self.member.as_mut().is_some_and(|member| !member.may_guess(now, to)) {
                self.counters.count(Reason::HellosHeld);
                continue;
            }
            self.out(Output::SendFlow { key, to: Some(to), bytes });
        }
    }

    /// What an attempt wants to send; and what came of it.
    pub(super) fn attempt_steps(&mut self, now: Instant, key: Key) {
        self.search_steps(now, key);
        let Some(attempt) = self.attempt(key) else { return };
        let mut sends = Vec::new();
        while let Some((to, bytes)) = attempt.poll_output() {
            sends.push((to, bytes, attempt.is_guess(to)));
        }
        let (result, next) = (attempt.result().cloned(), attempt.poll_timeout());
        self.send_hellos(now, key, sends);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let accepting = flow.accepting;
        let State::Meeting(meeting) = &mut flow.state else { return };
        meeting.next = next.unwrap_or(meeting.deadline);
        match result {
            Some(Ok(won)) if !accepting => self.path_found(now, key, won),
            Some(Err(_)) if accepting => self.not_met(now, key),
            Some(Err(trouble)) => self.no_path(now, key, &trouble),
            _ => {}
        }
    }

    /// Where the peer's shim may be spoken to.
    pub(super) fn note_listens(&mut self, key: Key) {
        let met = self.flows.get(&key).and_then(|flow| flow.met.as_ref());
        let Some(meeting) = met.and_then(|met| met.attempt.as_ref()).and_then(|attempt| attempt.meeting()) else {
            return;
        };
        let meeting = meeting.clone();
        self.listens_of(key, &meeting);
        let own = self.member.as_ref().map(|member| member.nat()).unwrap_or_default();
        let mapped = meeting.mapped.shim.is_some() || self.mapped_shim().shim.is_some();
        if nat::hindrance(own, meeting.nat).is_some()
            && let Some(flow) = self.flows.get_mut(&key)
            && flow.way != Some(Way::Local)
        {
            // The path was found only because its port was predicted, searched for or mapped: that of a listen port need not be. The
            // server carries until they hear each other.
            flow.control = carried_to(meeting.peer);
            if !mapped {
                flow.met.iter_mut().for_each(|met| met.listens.clear());
            }
        }
    }

    /// The same, as the server said it.
    pub(super) fn listens_of(&mut self, key: Key, meeting: &proto::rendezvous::Meeting) {
        let own = self.is_mapped(key);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(met) = &mut flow.met else { return };
        if flow.way == Some(Way::Relayed) {
            // Where sockets do not reach each other, listen ports do not either.
            flow.control = carried_to(meeting.peer);
            return;
        }
        // What a router maps for the flow it may not map for the listen ports: until they hear each other, the server carries.
        let by_router = flow.way == Some(Way::Mapped) && (own || meeting.mapped.flow.is_some());
        flow.control = if by_router { carried_to(meeting.peer) } else { meeting.shim_public };
        // One that shows that it is the peer's: another may be anybody's, and nobody counts what is said there.
        let proven = [meeting.shim_public.ip(), flow.peer.ip()];
        let mapped = meeting.mapped.shim.filter(|at| proven.contains(&at.ip()));
        let all = std::iter::once(meeting.shim_public).chain(mapped).chain(meeting.shim_locals.iter().copied());
        let own = self.settings.listen;
        let usable =
            |at: &SocketAddr| *at != own && at.is_ipv4() == own.is_ipv4() && proto::rendezvous::is_candidate(*at);
        met.listens = all.filter(usable).take(5).collect();
    }

    /// The asking side has its path: the request goes there.
    fn path_found(&mut self, now: Instant, key: Key, won: Won) {
        self.counters.count(if won.way == Way::Relayed { Reason::PathsRelayed } else { Reason::PathsFound });
        self.end_search(now, key);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Meeting(Meeting { deadline, .. }) = flow.state else { return };
        flow.peer = won.at;
        flow.way = Some(won.way);
        self.keep_mapping(key, won);
        self.note_listens(key);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let pause = (won.round_trip * 3 / 2).clamp(FIRST_PAUSE_KNOWN, Duration::from_secs(1));
        let asking = Asking {
            deadline,
            timeout: deadline.saturating_duration_since(now).max(Duration::from_millis(1)),
            asked: 0,
            next: now,
            pause,
            longest: LONGEST_PAUSE_KNOWN.max(pause),
            steady: 0,
            unreachable: 0,
            recovering: false,
            cookie: Vec::new(),
        };
        flow.go(Cause::PathFound, State::Asking(asking));
        self.request(now, key);
    }

    /// It has none: once more from a fresh port, or the program is told.
    fn no_path(&mut self, now: Instant, key: Key, trouble: &Trouble) {
        self.counters.count(Reason::PathsNotFound);
        let Some(flow) = self.flows.get(&key) else { return };
        let State::Meeting(Meeting { deadline, .. }) = flow.state else { return };
        let round = flow.met.as_ref().map_or(0, |met| met.round);
        let server = self.member.as_ref().and_then(|member| member.server()).unwrap_or(self.settings.listen);
        let again = trouble.is_worth_another() && round + 1 < ROUNDS && now + WORTH_WHILE < deadline;
        if let (true, Some(id)) = (again, flow.id) {
            let ask = Ask {
                flow: id,
                name: flow.name.clone(),
                source: flow.source.clone(),
                qos: flow.qos,
                timeout: deadline - now,
                data: flow.data.clone(),
                owner: flow.owner.clone(),
            };
            return self.another_round(now, key, ask, round + 1);
        }
        let kind = match trouble {
            Trouble::ServerSilent(_) => FailureKind::DirectoryFailed,
            Trouble::UnknownSession => FailureKind::NotPermitted,
            Trouble::Refused(Refusal::UnknownName | Refusal::Yourself) => FailureKind::UnknownName,
            Trouble::Refused(_) => FailureKind::Exhausted,
            Trouble::PeerAbsent | Trouble::NoPath { .. } => FailureKind::TimedOut,
        };
        let hint = matches!(trouble, Trouble::NoPath { .. }).then(|| self.router_hint());
        let text = [trouble.sentence(&flow.name, server)].into_iter().chain(hint).collect::<Vec<_>>().join("; ");
        self.fail(now, key, Cause::NoPath, Failure::new(kind, text));
    }

    fn another_round(&mut self, now: Instant, key: Key, ask: Ask, round: u8) {
        let next = self.next_key();
        // The id is the next one's from here on.
        self.close(now, key);
        if let Some(flow) = self.flows.get_mut(&key)
            && let Some(id) = flow.id.take()
        {
            self.by_id.remove(&id);
            flow.go(Cause::NoPath, State::Over);
        }
        match self.ask_rendezvous(now, next, ask, round) {
            Ok(()) => self.out(Output::Again { key, next }),
            Err(failure) => self.out(Output::Failed { key, failure }),
        }
    }
}

/// How control datagrams to a member's shim are addressed that the server carries: in the prefix for what is discarded (RFC 6666),
/// to which nothing else is ever sent.
pub(super) fn carried_to(host: HostId) -> SocketAddr {
    SocketAddr::new(std::net::Ipv6Addr::from((0x0100_u128 << 112) | u128::from(host.0)).into(), 1)
}

/// The opposite; nothing for addresses of the network.
pub(super) fn is_carried_to(at: SocketAddr) -> Option<HostId> {
    let std::net::IpAddr::V6(ip) = at.ip() else { return None };
    let number = u128::from(ip);
    let host = u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
    (number >> 64 == 0x0100_u128 << 48 && at.port() == 1).then_some(HostId(host))
}

/// As listings have it.
pub(super) fn way_word(way: Option<Way>) -> &'static str {
    way.map_or("", Way::as_str)
}

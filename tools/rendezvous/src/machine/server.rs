//! The server: every datagram's first look, and what happens with time.
//!
//! A datagram that asks something is as long as whatever may be sent because of it; brings a cookie of its address, or is told
//! one; is one of not too many from its network; is sealed with its session's key, or told that session and key are unknown.
//! Only then anything is looked at that lasts.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use pace::{Bucket, Pace, Prefix, Prefixes};
use proto::rendezvous::{DATAGRAM, Envelope, Head, Malformed, Refusal, Said, SessionId, SessionKey};
use proto::{HostId, Name, WireId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::attempts::Attempts;
use super::cookie::Jar;
use super::counts::{Counts, Reason};
use super::hygiene::canonical;
use super::relay::Relay;
use super::rules::{Rules, SessionRules};
use super::session::Session;
use super::timers::{Due, Timers};

/// What is said to whom nothing is known of, in all, and to one network.
const STRANGERS: Pace = Pace::per_second(50_000, Duration::from_millis(250));
const STRANGERS_OF_PREFIX: Pace = Pace::per_second(1_000, Duration::from_secs(1));
/// Events that wait to be told: more are not kept.
const EVENTS: usize = 4_096;

/// Where the server listens: a port that members speak to, and two more of the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What members speak to.
    pub main: SocketAddr,
    /// From which it is answered who asks what NAT there is.
    pub other: Option<SocketAddr>,
    /// The relay.
    pub relay: Option<SocketAddr>,
}

/// Which port of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// [`Place::main`].
    Main,
    /// [`Place::other`].
    Other,
    /// [`Place::relay`].
    Relay,
}

/// Where a datagram came to, and where one leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via {
    /// The number of the place.
    pub place: usize,
    /// Its port.
    pub role: Role,
    /// Which of this host's addresses, where the place has several.
    pub local: Option<IpAddr>,
}

/// A datagram that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// From where.
    pub via: Via,
    /// To whom.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// What is told to whoever runs the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as the names say; sessions by name")]
pub enum Event {
    /// A member came; it may have been one under another boot id.
    Joined { session: String, member: HostId, at: SocketAddr, anew: bool },
    /// A member is seen elsewhere.
    Moved { session: String, member: HostId, from: SocketAddr, to: SocketAddr },
    /// A member is gone: it said so, or it was silent for too long.
    Left { session: String, member: HostId, at: SocketAddr, silent: bool, after: Duration },
    /// What an attempt came to.
    Introduced { session: String, asker: HostId, name: Name, round: u8, outcome: Introduced },
    /// Both sides of a pair are there.
    Relaying { session: String, asker: HostId, asked: HostId },
    /// A pair is over.
    Relayed { session: String, asker: HostId, asked: HostId, bytes: u64, after: Duration },
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduced {
    /// Both sides were told where the other is.
    Met(HostId, Duration),
    /// The other side was told, and never came.
    Unmet(HostId),
    /// The first was told and did not come, or said no: the second is asked in its place.
    PassedOn(HostId, HostId),
    /// It was refused, by the server or by the other side.
    Refused(Refusal),
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) from: SocketAddr,
    pub(super) via: Via,
    pub(super) head: Head,
}

impl Asker {
    /// The head of an answer.
    pub(super) fn back(&self) -> Head {
        Head { member: HostId(0), sender: WireId(0), receiver: self.head.sender, ..self.head }
    }
}

/// How much may come.
#[derive(Debug)]
struct Gates {
    all: Bucket,
    strangers: Prefixes,
    members: Prefixes,
}

/// The server.
#[derive(Debug)]
pub struct Server {
    pub(super) rules: Rules,
    pub(super) places: Vec<Place>,
    /// Addresses of this host that are known.
    own: Vec<IpAddr>,
    pub(super) rng: ChaCha12Rng,
    jar: Jar,
    gates: Gates,
    /// What is tried where there is no such session.
    nobody: SessionKey,
    pub(super) sessions: HashMap<SessionId, Session>,
    pub(super) attempts: Attempts,
    pub(super) relay: Relay,
    pub(super) timers: Timers,
    pub(super) counts: Counts,
    pub(super) closing: bool,
    out: VecDeque<Sending>,
    events: VecDeque<Event>,
}

impl Server {
    /// A server at these places. `seed`: random.
    pub fn new(rules: Rules, places: Vec<Place>, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let mut sixteen = || {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let (jar, nobody) = (Jar::new(&mut sixteen), SessionKey::new("", &sixteen()));
        let mut gate = || Prefixes::new(|| rng.next_u64());
        let gates = Gates { all: Bucket::default(), strangers: gate(), members: gate() };
        let mut server = Self {
            rules: Rules::default(),
            places,
            own: Vec::new(),
            rng,
            jar,
            gates,
            nobody,
            sessions: HashMap::new(),
            attempts: Attempts::default(),
            relay: Relay::default(),
            timers: Timers::default(),
            counts: Counts::default(),
            closing: false,
            out: VecDeque::new(),
            events: VecDeque::new(),
        };
        server.reload(rules);
        server
    }

    /// Other rules. Sessions that are gone, or have another key, are forgotten with their members.
    pub fn reload(&mut self, rules: Rules) {
        let mut before = std::mem::take(&mut self.sessions);
        for session in &rules.sessions {
            let id = SessionId::of(&session.name);
            let kept = before.remove(&id).filter(|before| before.rules.key == session.key);
            let mut now = kept.unwrap_or_else(|| self.empty(id, session));
            now.rules = session.clone();
            self.sessions.insert(id, now);
        }
        for (id, session) in before {
            self.forget(id, &session);
        }
        let places = self.places.iter().map(|place| place.main.ip()).filter(|ip| !ip.is_unspecified());
        self.own = places.chain(rules.advertise.iter().copied()).collect();
        self.rules = rules;
    }

    /// A session without members, whatever there was under its id.
    fn empty(&mut self, id: SessionId, rules: &SessionRules) -> Session {
        self.forget_attempts(id);
        Session::new(rules.clone(), self.rng.next_u64())
    }

    fn forget(&mut self, id: SessionId, session: &Session) {
        for (member, known) in &session.members {
            self.timers.cancel(known.due, Due::Member(id, *member));
        }
        if let Some(at) = session.news {
            self.timers.cancel(at, Due::News(id));
        }
        self.forget_attempts(id);
    }

    fn forget_attempts(&mut self, id: SessionId) {
        for key in self.attempts.of_session(id) {
            if let Some(attempt) = self.attempts.remove(&key) {
                self.timers.cancel(attempt.due, Due::Attempt(key));
            }
        }
        for key in self.relay.of_session(id) {
            self.end_pair(key, None);
        }
    }

    /// Nobody new is let in, and nothing is begun. What is under way goes on.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether nothing is under way that waits for this server.
    pub fn is_idle(&self) -> bool {
        !self.attempts.any_waits() && self.relay.is_empty()
    }

    /// A datagram to [`Role::Main`] or [`Role::Other`]. What is to be sent because of it is together not longer.
    pub fn handle(&mut self, now: Instant, via: Via, from: SocketAddr, bytes: &[u8]) {
        Counts::count(&mut self.counts.received, bytes.len());
        if let Err(reason) = self.take(now, via, canonical(from), bytes) {
            self.counts.drop(reason);
        }
    }

    fn take(&mut self, now: Instant, via: Via, from: SocketAddr, bytes: &[u8]) -> Result<(), Reason> {
        let envelope = Envelope::read(bytes)?;
        let asker = Asker { from, via, head: envelope.head };
        if envelope.is_asked() && bytes.len() != DATAGRAM {
            return Err(Reason::Unpadded);
        }
        if !envelope.is_sealed() {
            return self.probe(now, &asker, &envelope.unsealed()?);
        }
        if via.role != Role::Main || envelope.head.member == HostId(0) {
            return Err(Reason::Unasked);
        }
        if !envelope.is_asked() {
            return self.said_by_member(now, &asker, &envelope);
        }
        let Some(said) = self.open(now, &asker, &envelope)? else { return Ok(()) };
        match said {
            Said::Join(join) => self.join(now, &asker, &join),
            Said::Leave { boot, .. } => self.leave(now, &asker, boot),
            Said::Introduce(introduce) => self.introduce(now, &asker, introduce),
            Said::Meet(meet) => self.meet(now, &asker, meet),
            _ => Err(Reason::Unasked),
        }
    }

    /// What was asked, if it brings a good cookie and is sealed with its session's key. Else the asker is told.
    pub(super) fn open(
        &mut self,
        now: Instant,
        asker: &Asker,
        envelope: &Envelope<'_>,
    ) -> Result<Option<Said>, Reason> {
        let rng = &mut self.rng;
        self.jar.turn(now, &mut || {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            bytes
        });
        if !self.jar.is_ours(envelope.cookie(), asker.from.ip()) {
            self.admit_stranger(now, asker)?;
            self.counts.cookies += 1;
            let cookie = self.cookie(asker);
            self.send(asker.via, asker.from, asker.back().encode_bare(&Said::Cookie(cookie)));
            return Ok(None);
        }
        let pace = Pace::per_second(self.rules.limits.rate.max(1), Duration::from_secs(1));
        if !self.gates.members.take(now, pace, Prefix::of(asker.from.ip()), 1) {
            return Err(Reason::Rate);
        }
        // The same work for a session that there is not.
        let session = self.sessions.get(&asker.head.session);
        let key = session.map_or(&self.nobody, |session| &session.rules.key);
        match envelope.of(key) {
            Ok(said) if session.is_some() => Ok(Some(said)),
            Ok(_) | Err(Malformed::Seal) => {
                let count = match session {
                    Some(_) => &mut self.counts.wrong_keys,
                    None => &mut self.counts.unknown_sessions,
                };
                *count += 1;
                self.send(asker.via, asker.from, asker.back().encode_bare(&Said::Unknown));
                Ok(None)
            }
            Err(malformed) => Err(malformed.into()),
        }
    }

    /// A datagram that asks nothing: only from where its member is.
    fn said_by_member(&mut self, now: Instant, asker: &Asker, envelope: &Envelope<'_>) -> Result<(), Reason> {
        let session = self.sessions.get(&asker.head.session).ok_or(Reason::Elsewhere)?;
        let member = session.members.get(&asker.head.member);
        if member.is_none_or(|member| member.at != asker.from) {
            return Err(Reason::Elsewhere);
        }
        let pace = Pace::per_second(self.rules.limits.rate.max(1), Duration::from_secs(1));
        if !self.gates.members.take(now, pace, Prefix::of(asker.from.ip()), 1) {
            return Err(Reason::Rate);
        }
        match envelope.of(&session.rules.key)? {
            Said::Decline { attempt, refusal } => self.decline(now, asker, attempt, refusal),
            Said::Carry { to, payload } => self.carry(asker, to, payload),
            _ => Err(Reason::Unasked),
        }
    }

    pub(super) fn admit_stranger(&mut self, now: Instant, asker: &Asker) -> Result<(), Reason> {
        let mine = self.gates.strangers.take(now, STRANGERS_OF_PREFIX, Prefix::of(asker.from.ip()), 1);
        if mine && self.gates.all.take(now, STRANGERS, 1) { Ok(()) } else { Err(Reason::Rate) }
    }

    /// The cookie of the asker's address.
    pub(super) fn cookie(&self, asker: &Asker) -> Vec<u8> {
        self.jar.bake(asker.from.ip())
    }

    /// Addresses of this host, as far as they are known.
    pub(super) fn own(&self, via: Via) -> Vec<IpAddr> {
        self.own.iter().copied().chain(via.local).collect()
    }

    pub(super) fn send(&mut self, via: Via, to: SocketAddr, bytes: Vec<u8>) {
        Counts::count(&mut self.counts.sent, bytes.len());
        self.out.push_back(Sending { via, to, bytes });
    }

    /// Says something to whoever asked, with its session's key.
    pub(super) fn reply(&mut self, asker: &Asker, said: &Said) {
        if let Some(session) = self.sessions.get(&asker.head.session) {
            let bytes = asker.back().encode(&session.rules.key, said);
            self.send(asker.via, asker.from, bytes);
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        }
    }

    /// Time has passed. Tolerates being called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due::Member(session, member) => self.look_at_member(now, session, member),
                Due::Attempt(key) => self.look_at_attempt(now, key),
                Due::Pair(key) => self.look_at_pair(now, key),
                Due::News(session) => self.say_news(now, session),
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next datagram to send.
    pub fn poll_output(&mut self) -> Option<Sending> {
        self.out.pop_front()
    }

    /// What is to be told next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The kernel did not take so many datagrams.
    pub fn not_sent(&mut self) {
        self.counts.drop(Reason::NotSent);
    }

    /// What has happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

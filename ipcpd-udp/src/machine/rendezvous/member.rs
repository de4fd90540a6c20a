//! This shim in its session: joins, is heard again before its NAT or the server forgets, says which names it has and hears who else
//! is there; changes only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::rendezvous::{
    Change, Changes, Envelope, Head, Introduction, Join, Joined, Malformed, NameChange, NamesAt, Nat, Refusal, Said,
    Seen,
};
use proto::{BootId, HostId, Name, WireId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::guesses::Guesses;
use super::nat::Survey;
use super::predict::Steps;
use super::{Sends, Session};

mod measuring;

/// Between the first two JOINs that no answer comes to; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// After so many unanswered ones this host is no member any more, and the server is looked up anew.
const LOST_AFTER: u32 = 6;
/// The session is not known, or the key is another.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(30);
/// The session is full: somebody may leave.
const FULL_PAUSE: Duration = Duration::from_secs(10);
/// From one JOIN to the next: as often as the shortest-lived NAT asks for, and seldomer while the mapping stays.
const OFTEN: Duration = Duration::from_secs(15);
const SELDOM: Duration = Duration::from_secs(25);
const STEP: Duration = Duration::from_millis(2_500);
/// There is more to say or to hear: not sooner than this.
const SOON: Duration = Duration::from_millis(20);
/// Members of a session, and names of all of them, that are kept.
const MOST_MEMBERS: usize = 1_024;
const MOST_NAMES: usize = 65_536;

/// Another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Where the server sees it.
    pub public: SocketAddr,
    /// What it thinks.
    pub locals: Vec<SocketAddr>,
    /// What it has.
    pub names: BTreeSet<Name>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not a member yet, or not any more.
    Joining,
    /// A member.
    Joined,
    /// The server knows no such session, or the key is another.
    Unknown,
    /// The server takes no further member: its session has as many as it may have, or it is about to end.
    Full,
    /// Gone by its own will.
    Left,
}

/// What its owner is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Look the server up, again if it was before; say [`Member::server_at`].
    FindServer,
    /// Somebody wants a flow.
    Introduction(Introduction),
    /// A member's shim says something about a flow, through the server.
    Carried(HostId, Vec<u8>),
    /// It stands otherwise than before.
    Stands(Standing),
    /// Open [`SOCKETS`](super::predict::SOCKETS) sockets; say [`Member::measure`].
    Measure,
    /// Close them.
    Measured,
}

/// One member.
#[derive(Debug)]
pub struct Member {
    session: Session,
    boot: BootId,
    local: SocketAddr,
    server: Option<SocketAddr>,
    standing: Standing,
    count: u64,
    cookie: Vec<u8>,
    /// What the server sees; where that changed, the NAT forgot.
    public: Option<SocketAddr>,
    period: Duration,
    /// When the JOIN that has no answer yet was sent, and how often.
    asked: Option<Instant>,
    unanswered: u32,
    pause: Duration,
    next: Option<Instant>,
    round_trip: Option<Duration>,
    names: BTreeSet<Name>,
    log: Vec<NameChange>,
    names_at: NamesAt,
    seen: Seen,
    others: BTreeMap<HostId, Other>,
    relay: u16,
    survey: Option<Survey>,
    steps: Option<Steps>,
    /// The server's other port, where the ports' order is to be asked for.
    other: Option<SocketAddr>,
    nat: Nat,
    /// The router hands on what comes for the listen port.
    mapped: bool,
    guesses: Guesses,
    out: Sends,
    events: VecDeque<Event>,
}

impl Member {
    /// A member to be, on the listen port `local`. Its server has to be looked up first.
    pub fn new(session: Session, boot: BootId, local: SocketAddr, rng: &mut ChaCha12Rng) -> Self {
        Self {
            session,
            boot,
            local,
            server: None,
            standing: Standing::Joining,
            count: 0,
            cookie: Vec::new(),
            public: None,
            period: OFTEN,
            asked: None,
            unanswered: 0,
            pause: FIRST_PAUSE,
            next: None,
            round_trip: None,
            names: BTreeSet::new(),
            log: Vec::new(),
            names_at: NamesAt { generation: rng.next_u32().max(1), count: 0 },
            seen: Seen::default(),
            others: BTreeMap::new(),
            relay: 0,
            survey: None,
            steps: None,
            other: None,
            nat: Nat::default(),
            mapped: false,
            guesses: Guesses::new(rng),
            out: Sends::new(),
            events: VecDeque::new(),
        }
    }

    /// The server was found there.
    pub fn server_at(&mut self, now: Instant, server: SocketAddr) {
        if server.is_ipv4() == self.local.is_ipv4() && self.standing != Standing::Left {
            if self.server != Some(server) {
                self.cookie.clear();
            }
            self.server = Some(server);
            self.next = Some(now);
            self.handle_timeout(now);
        }
    }

    /// The server was not found; looked up again later.
    pub fn no_server(&mut self, now: Instant) {
        if self.server.is_none() {
            self.next = Some(now + LONGEST_PAUSE);
        }
    }

    /// The listen port is at another address of this host: the server is to hear of it at once.
    pub fn moved(&mut self, now: Instant, local: SocketAddr) {
        self.local = local;
        (self.survey, self.nat) = (None, Nat::default());
        self.stop_measuring();
        self.public = None;
        (self.asked, self.unanswered, self.pause) = (None, 0, FIRST_PAUSE);
        if !matches!(self.standing, Standing::Left) {
            self.next = Some(now);
            self.handle_timeout(now);
        }
    }

    /// A program of this host serves the name from now on.
    pub fn add_name(&mut self, now: Instant, name: &Name) {
        if self.names.insert(name.clone()) {
            self.change(now, NameChange::Add(name.clone()));
        }
    }

    /// No longer.
    pub fn remove_name(&mut self, now: Instant, name: &Name) {
        if self.names.remove(name) {
            self.change(now, NameChange::Remove(name.clone()));
        }
    }

    fn change(&mut self, now: Instant, change: NameChange) {
        self.log.push(change);
        if self.log.len() > 2 * self.names.len() + 64 {
            self.begin_names();
        }
        self.soon(now);
    }

    /// All names anew: the server has none, or what it has is not what this side thought.
    fn begin_names(&mut self) {
        self.names_at = NamesAt { generation: self.names_at.generation.wrapping_add(1).max(1), count: 0 };
        self.log = self.names.iter().cloned().map(NameChange::Add).collect();
    }

    /// Says JOIN soon: there is more to say or to hear, or the way from the server to here may be shut.
    pub fn soon(&mut self, now: Instant) {
        if self.standing == Standing::Joined && self.asked.is_none() {
            let at = now + SOON;
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    /// Leaves: said twice, because no answer is waited for.
    pub fn leave(&mut self) {
        if let Some(server) = self.server.filter(|_| self.standing == Standing::Joined) {
            for _ in 0..2 {
                self.count += 1;
                let said = Said::Leave { boot: self.boot, cookie: self.cookie.clone() };
                self.out.push_back((server, self.head().encode(&self.session.key, &said)));
            }
        }
        self.standing = Standing::Left;
        self.next = None;
        self.survey = None;
        self.stop_measuring();
    }

    fn head(&self) -> Head {
        let Session { id, host, .. } = self.session;
        Head { session: id, member: host, sender: WireId(self.count), receiver: WireId(0) }
    }

    /// No flow of that attempt.
    pub fn decline(&mut self, attempt: WireId, refusal: Refusal) {
        if let Some(server) = self.server {
            let said = Said::Decline { attempt, refusal };
            self.out.push_back((server, self.head().encode(&self.session.key, &said)));
        }
    }

    /// Says something to another member's shim, through the server.
    pub fn carry(&mut self, to: HostId, payload: Vec<u8>) {
        if let Some(server) = self.server.filter(|_| self.standing == Standing::Joined) {
            let said = Said::Carry { to, payload };
            self.out.push_back((server, self.head().encode(&self.session.key, &said)));
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(survey) = &mut self.survey {
            survey.handle_timeout(now, &mut self.out);
        }
        self.surveyed();
        self.measured();
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let Some(server) = self.server else {
            self.next = None;
            return self.events.push_back(Event::FindServer);
        };
        if self.asked.is_some() {
            self.unanswered += 1;
            if self.unanswered == LOST_AFTER {
                self.lost(now);
            }
        }
        self.join(now, server);
    }

    /// Nobody answers: the server may have another address by now.
    fn lost(&mut self, now: Instant) {
        self.stand(Standing::Joining);
        self.events.push_back(Event::FindServer);
        self.asked = Some(now);
    }

    fn stand(&mut self, standing: Standing) {
        if self.standing != standing {
            self.standing = standing;
            self.events.push_back(Event::Stands(standing));
        }
    }

    fn join(&mut self, now: Instant, server: SocketAddr) {
        self.count += 1;
        let mut room = Changes::ROOM;
        let fits = |change: &&NameChange| {
            let fits = change.length() <= room;
            room = room.saturating_sub(change.length());
            fits
        };
        let said = usize::try_from(self.names_at.count).unwrap_or(usize::MAX);
        let names = self.log.iter().skip(said).take_while(fits).cloned().collect();
        let join = Said::Join(Join {
            cookie: self.cookie.clone(),
            boot: self.boot,
            locals: vec![self.local],
            seen: self.seen,
            names_at: self.names_at,
            names,
            round_trip_us: self.round_trip.map_or(0, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX)),
        });
        self.out.push_back((server, self.head().encode(&self.session.key, &join)));
        self.asked = Some(now);
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// A datagram of this family on the listen port. An error is for the counters.
    pub fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        rng: &mut ChaCha12Rng,
    ) -> Result<(), Malformed> {
        let envelope = Envelope::read(bytes)?;
        let head = envelope.head;
        if let Some(survey) = self.survey.as_mut().filter(|survey| survey.is_answer(from, &head)) {
            survey.handle(now, from, &envelope.unsealed()?, &mut self.out);
            self.surveyed();
            return Ok(());
        }
        let known = Some(from) == self.server && head.session == self.session.id;
        if !known || self.standing == Standing::Left {
            return Err(Malformed::Header);
        }
        let said = if envelope.is_sealed() { envelope.of(&self.session.key)? } else { envelope.unsealed()? };
        if head.member != HostId(0) {
            let Said::Carried(payload) = said else { return Err(Malformed::Header) };
            self.events.push_back(Event::Carried(head.member, payload));
            return Ok(());
        }
        let fresh = head.receiver == WireId(self.count) && self.asked.is_some();
        match said {
            Said::Cookie(cookie) if fresh && !cookie.is_empty() && cookie != self.cookie => {
                self.cookie = cookie;
                self.join(now, from);
            }
            Said::Unknown if fresh => {
                self.answered(now);
                self.stand(Standing::Unknown);
                self.next = Some(now + UNKNOWN_PAUSE);
            }
            Said::NotIntroduced(Refusal::TooMany) if fresh => {
                self.answered(now);
                self.stand(Standing::Full);
                self.next = Some(now + FULL_PAUSE);
            }
            Said::Joined(joined) if fresh => self.joined(now, from, joined, rng),
            Said::News(seen) if seen != self.seen => self.soon(now),
            Said::Introduction(introduction) => self.events.push_back(Event::Introduction(introduction)),
            Said::Cookie(_) | Said::Unknown | Said::NotIntroduced(_) | Said::Joined(_) | Said::News(_) | Said::Left => {
            }
            _ => return Err(Malformed::Header),
        }
        Ok(())
    }

    fn answered(&mut self, now: Instant) {
        if let Some(asked) = self.asked.take().filter(|_| self.unanswered == 0) {
            let took = now.saturating_duration_since(asked);
            self.round_trip = Some(self.round_trip.map_or(took, |known| (known * 3 + took) / 4));
        }
        self.unanswered = 0;
        self.pause = FIRST_PAUSE;
    }

    fn joined(&mut self, now: Instant, from: SocketAddr, joined: Joined, rng: &mut ChaCha12Rng) {
        self.answered(now);
        self.cookie = joined.cookie;
        self.relay = joined.relay;
        let moved = self.public.replace(joined.public) != Some(joined.public);
        self.period = if moved { OFTEN } else { (self.period + STEP).min(SELDOM) };
        if moved {
            self.survey = Some(Survey::new(now, from, self.local, self.head(), rng));
        }
        if joined.reset {
            self.others.clear();
        }
        joined.changes.into_iter().for_each(|change| self.apply(change));
        self.seen = joined.seen;
        let (have, log) = (joined.names_at, u32::try_from(self.log.len()).unwrap_or(u32::MAX));
        let counted = have.generation == self.names_at.generation && have.count <= log;
        if counted {
            self.names_at = have;
        } else {
            self.begin_names();
        }
        self.stand(Standing::Joined);
        let rest = usize::try_from(self.names_at.count).is_ok_and(|said| said < self.log.len());
        let limit = Duration::from_millis(joined.refresh_ms.into()).max(Duration::from_secs(1));
        let pause = if rest || self.seen.version < joined.latest { SOON } else { self.period.min(limit) };
        self.next = Some(now + pause);
        if let Some(survey) = &mut self.survey {
            survey.handle_timeout(now, &mut self.out);
        }
    }

    fn apply(&mut self, change: Change) {
        let full = self.others.len() >= MOST_MEMBERS;
        let names = self.others.values().map(|other| other.names.len()).sum::<usize>();
        match change {
            Change::Member { member, public, locals } => {
                if let Some(other) = self.others.get_mut(&member) {
                    (other.public, other.locals) = (public, locals);
                } else if !full && member != self.session.host {
                    self.others.insert(member, Other { public, locals, names: BTreeSet::new() });
                }
            }
            Change::Left(member) => drop(self.others.remove(&member)),
            Change::Name(member, name) if names < MOST_NAMES => {
                if let Some(other) = self.others.get_mut(&member) {
                    other.names.insert(name);
                }
            }
            Change::NameGone(member, name) => {
                if let Some(other) = self.others.get_mut(&member) {
                    other.names.remove(&name);
                }
            }
            Change::Name(..) => {}
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let survey = self.survey.as_ref().and_then(Survey::poll_timeout);
        let steps = self.steps.as_ref().and_then(Steps::poll_timeout);
        [self.next, survey, steps].into_iter().flatten().min()
    }

    /// The next datagram to send from the listen port.
    pub fn poll_output(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    /// What its owner is to do next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The session, and this host in it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The server, once it was found.
    pub fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether one more hello may go to an address that only another member's word stands for.
    pub fn may_guess(&mut self, now: Instant, to: SocketAddr) -> bool {
        self.guesses.may(now, to)
    }

    /// Whether a search may try one more port of an address.
    pub fn may_probe(&mut self, now: Instant, to: SocketAddr) -> bool {
        self.guesses.may_probe(now, to)
    }

    /// Whether one more search may open sockets.
    pub fn may_open(&mut self, now: Instant) -> bool {
        self.guesses.may_open(now)
    }

    /// Where the server sees the listen port.
    pub fn public(&self) -> Option<SocketAddr> {
        self.public
    }

    /// What stands before this host.
    pub fn nat(&self) -> Nat {
        Nat { search: self.session.punch == super::predict::Level::Search, ..self.nat }
    }

    /// Whether it is still being found out what stands before this host.
    pub fn is_surveying(&self) -> bool {
        self.survey.is_some()
    }

    /// The router maps the listen port from now on, or not any more.
    pub fn set_mapped(&mut self, mapped: bool) {
        self.mapped = mapped;
    }

    /// For the sockets of flows.
    pub fn cookie(&self) -> &[u8] {
        &self.cookie
    }

    /// To the server and back.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The relay, if the server has one.
    pub fn relay(&self) -> Option<SocketAddr> {
        let server = self.server.filter(|_| self.relay != 0)?;
        Some(SocketAddr::new(server.ip(), self.relay))
    }

    /// How much it has of the list of members: another value where that changed.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// The other members.
    pub fn others(&self) -> &BTreeMap<HostId, Other> {
        &self.others
    }
}

//! One attempt at a flow through NATs, from one side's socket: the server is asked until it says where the other is, then
//! hellos go out.
//!
//! Inputs: datagrams at the socket, time. Outputs: datagrams from the socket, and how it ended. The asking side begins
//! with [`Attempt::ask`], the other with [`Attempt::meet`], told by an INTRODUCTION on the listen port.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::rendezvous::{
    Bind, Envelope, FlowIds, Head, Introduce, Introduction, Malformed, Mapped, Meet, Meeting, Nat, Refusal, Said,
};
use proto::{HostId, Name, WireId};
use rand_chacha::ChaCha12Rng;

use super::predict::{self, Level};
use super::punch::{Punch, Way, Won};
pub use super::trouble::Trouble;
use super::{Sends, Session, nat};
use searching::Searching;

mod searching;

/// Between the first two questions to the server where its distance is not known.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Where the two kinds of NAT cannot meet, hellos get so long before the relay is asked.
const HOPELESS: Duration = Duration::from_millis(400);
/// The same where only a router that was asked makes them meet.
const MAPPED: Duration = Duration::from_millis(800);
/// Rounds: the second one from fresh ports, the other side first.
pub const ROUNDS: u8 = 2;

/// What an attempt begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The session, and this host in it.
    pub session: Session,
    /// Its server.
    pub server: SocketAddr,
    /// Its relay, if it has one.
    pub relay: Option<SocketAddr>,
    /// This side's id of the flow.
    pub ours: WireId,
    /// The socket's own addresses.
    pub locals: Vec<SocketAddr>,
    /// The member's.
    pub cookie: Vec<u8>,
    /// What stands before this host.
    pub nat: Nat,
    /// What this host's router maps.
    pub mapped: Mapped,
    /// The router was asked to map the socket's port: the server is asked once that is done, or then.
    pub hold: Option<Instant>,
    /// To the server and back, if known.
    pub round_trip: Option<Duration>,
    /// Given up then.
    pub deadline: Instant,
}

#[derive(Clone, Debug)]
enum Goal {
    Ask { name: Name, peer: HostId, round: u8, moves: Option<FlowIds> },
    Meet { introduction: Introduction },
}

#[derive(Clone, Debug)]
enum Stage {
    /// The server is asked.
    Introducing { next: Instant, pause: Duration, asked: u32, told: bool },
    /// Hellos go out.
    Punching(Box<Punch>),
    /// None came both ways: the relay is asked, until the other side has asked it, too.
    Relaying(Relaying),
    /// The asking side has its path.
    Over,
}

#[derive(Clone, Debug)]
struct Relaying {
    at: SocketAddr,
    next: Instant,
    pause: Duration,
    /// Both sides are there.
    both: bool,
    /// What is to be said if nothing comes of it.
    trouble: Trouble,
}

/// One side's attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    setup: Setup,
    goal: Goal,
    stage: Stage,
    /// Where the flow is, of one that there is.
    present: Option<(SocketAddr, Way)>,
    meeting: Option<Meeting>,
    searching: Searching,
    /// The search's socket that the path goes from.
    found_by: Option<usize>,
    out: Sends,
    result: Option<Result<Won, Trouble>>,
}

impl Attempt {
    /// The asking side: for a name, to `peer` or whoever has it.
    pub fn ask(now: Instant, setup: Setup, name: Name, peer: HostId, round: u8) -> Self {
        Self::begin(now, setup, Goal::Ask { name, peer, round, moves: None })
    }

    /// The asking side of a flow that there is: for another path.
    pub fn seek(now: Instant, setup: Setup, name: Name, peer: HostId, round: u8, flow: FlowIds) -> Self {
        Self::begin(now, setup, Goal::Ask { name, peer, round, moves: Some(flow) })
    }

    /// The side that is asked.
    pub fn meet(now: Instant, setup: Setup, introduction: Introduction) -> Self {
        Self::begin(now, setup, Goal::Meet { introduction })
    }

    /// The path that the flow has is tried, too, and first: nobody else may name it.
    pub fn keeping(mut self, present: Option<(SocketAddr, Way)>) -> Self {
        self.present = present;
        self
    }

    fn begin(now: Instant, setup: Setup, goal: Goal) -> Self {
        let pause = setup.round_trip.map_or(FIRST_PAUSE, |time| (time * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        let stage = Stage::Introducing { next: setup.hold.unwrap_or(now), pause, asked: 0, told: false };
        let (searching, out, present) = (Searching::default(), Sends::new(), None);
        let mut attempt =
            Self { setup, goal, stage, present, meeting: None, searching, found_by: None, out, result: None };
        attempt.handle_timeout(now);
        attempt
    }

    /// The router has mapped the socket's port, or it has not: nobody waits for it any more.
    pub fn mapped(&mut self, now: Instant, at: Option<SocketAddr>) {
        self.setup.mapped.flow = at;
        if let Stage::Introducing { next, asked, .. } = &mut self.stage
            && (*asked == 0 || at.is_some())
        {
            *next = now;
            self.handle_timeout(now);
        }
    }

    /// The next datagram to send from the socket.
    pub fn poll_output(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    /// Whether only the other side's word stands for an address that a datagram is to go to.
    pub fn is_guess(&self, to: SocketAddr) -> bool {
        matches!(&self.stage, Stage::Punching(punch) if punch.is_guess(to))
    }

    /// How it ended, once it has. The asked side goes on answering hellos after that.
    pub fn result(&self) -> Option<&Result<Won, Trouble>> {
        self.result.as_ref()
    }

    /// Where the other side is, once the server said so.
    pub fn meeting(&self) -> Option<&Meeting> {
        self.meeting.as_ref()
    }

    /// The round it is in, from 0.
    pub fn round(&self) -> u8 {
        match &self.goal {
            Goal::Ask { round, .. } => *round,
            Goal::Meet { introduction } => introduction.round,
        }
    }

    /// The other side's first word that needs a path came from there: taken, if a sealed hello did, too.
    pub fn take(&mut self, from: SocketAddr) -> Option<Won> {
        let won = match &mut self.stage {
            Stage::Punching(punch) => through_own(punch.take(from)?, self.setup.mapped),
            Stage::Relaying(relaying) if relaying.both && relaying.at == from => relayed(from),
            _ => return None,
        };
        self.result.get_or_insert(Ok(won));
        Some(won)
    }

    /// A datagram of this family at the socket. An error is for the counters.
    pub fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        rng: &mut ChaCha12Rng,
    ) -> Result<(), Malformed> {
        let envelope = Envelope::read(bytes)?;
        let from_server = from == self.setup.server && envelope.head.member == HostId(0);
        if from_server && envelope.head.session == self.setup.session.id && envelope.head.receiver == self.setup.ours {
            return self.handle_server(now, &envelope, rng);
        }
        if Some(from) == self.setup.relay && envelope.head.receiver == self.setup.ours {
            return self.handle_relay(now, &envelope);
        }
        let Stage::Punching(punch) = &mut self.stage else { return Err(Malformed::Header) };
        if !punch.is_from_peer(&envelope.head) {
            return Err(Malformed::Header);
        }
        let said = envelope.between(punch.key())?;
        if !punch.handle(now, from, &said, rng, &mut self.out) {
            return Err(Malformed::Header);
        }
        if let Some(won) = punch.won().map(|won| through_own(won, self.setup.mapped)) {
            self.result.get_or_insert(Ok(won));
        }
        Ok(())
    }

    fn handle_server(&mut self, now: Instant, envelope: &Envelope<'_>, rng: &mut ChaCha12Rng) -> Result<(), Malformed> {
        let said = if envelope.is_sealed() { envelope.of(&self.setup.session.key)? } else { envelope.unsealed()? };
        let Stage::Introducing { next, told, .. } = &mut self.stage else {
            return Ok(());
        };
        match said {
            // Once per cookie: whoever forges them gets no flood out of us.
            Said::Cookie(cookie) if !cookie.is_empty() && cookie != self.setup.cookie => {
                self.setup.cookie = cookie;
                *next = now;
                self.handle_timeout(now);
            }
            Said::Cookie(_) => {}
            Said::Unknown => self.fail(Trouble::UnknownSession),
            Said::Introducing => *told = true,
            Said::NotIntroduced(refusal) => self.fail(Trouble::Refused(refusal)),
            Said::Meeting(meeting) => self.begin_hellos(now, envelope.head.sender, meeting, rng),
            _ => return Err(Malformed::Header),
        }
        Ok(())
    }

    /// The relay's port.
    fn handle_relay(&mut self, now: Instant, envelope: &Envelope<'_>) -> Result<(), Malformed> {
        let said = if envelope.is_sealed() { envelope.of(&self.setup.session.key)? } else { envelope.unsealed()? };
        // Of a flow that moves no request follows: both sides take the path by this word.
        let takes = match &self.goal {
            Goal::Ask { .. } => true,
            Goal::Meet { introduction } => introduction.moves.is_some(),
        };
        let Stage::Relaying(relaying) = &mut self.stage else { return Ok(()) };
        match said {
            Said::Cookie(cookie) if !cookie.is_empty() && cookie != self.setup.cookie => {
                self.setup.cookie = cookie;
                relaying.next = now;
                self.handle_timeout(now);
            }
            Said::Bound(bound) if bound.both => {
                relaying.both = true;
                let at = relaying.at;
                if takes {
                    self.result.get_or_insert(Ok(relayed(at)));
                }
            }
            // The other side has not been there yet, or nothing is known of it yet: asked again.
            Said::NotBound(refusal) if refusal != Refusal::UnknownAttempt => {
                let mut trouble = relaying.trouble.clone();
                if let Trouble::NoPath { relay, .. } = &mut trouble {
                    *relay = Some(refusal);
                }
                self.fail(trouble);
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_hellos(&mut self, now: Instant, theirs: WireId, meeting: Meeting, rng: &mut ChaCha12Rng) {
        let Setup { session, ours, locals, .. } = &self.setup;
        let key = match &self.goal {
            Goal::Ask { .. } => session.key.attempt(session.host, *ours, meeting.peer, &meeting.nonce),
            Goal::Meet { introduction } => {
                let asker = introduction.asker;
                if meeting.peer != asker || meeting.nonce != introduction.nonce || theirs != introduction.attempt {
                    return;
                }
                session.key.attempt(asker, theirs, session.host, &meeting.nonce)
            }
        };
        let head = Head { session: session.id, member: session.host, sender: *ours, receiver: theirs };
        let asking = matches!(self.goal, Goal::Ask { .. });
        let predicts = predict::may_do(self.own_nat(), meeting.nat) && session.punch >= Level::Predict;
        let predicted = predict::next_of(meeting.nat, meeting.public).filter(|_| predicts);
        let mut punch = Punch::new(now, asking, head, key, &meeting, locals, predicted, rng);
        if let Some((to, way)) = self.present {
            punch.try_first(to, way, rng);
        }
        self.stage = Stage::Punching(Box::new(punch));
        self.meeting = Some(meeting);
        self.handle_timeout(now);
    }

    fn fail(&mut self, trouble: Trouble) {
        self.stage = Stage::Over;
        self.result.get_or_insert(Err(trouble));
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.search_timeout(now);
        let (deadline, asking) = (self.setup.deadline, matches!(self.goal, Goal::Ask { .. }));
        let searches = self.searches_until();
        match &mut self.stage {
            Stage::Introducing { asked, told, .. } if now >= deadline => {
                let trouble = if *told { Trouble::PeerAbsent } else { Trouble::ServerSilent(*asked) };
                self.fail(trouble);
            }
            Stage::Introducing { next, pause, asked, told } if *next <= now => {
                *asked += 1;
                *next = now + *pause;
                if *asked > 1 && !*told {
                    *pause = (*pause * 3 / 2).min(LONGEST_PAUSE);
                }
                let question = self.question();
                self.out.push_back((self.setup.server, question));
            }
            Stage::Punching(punch) => {
                let until = until(punch, asking, &self.setup, self.meeting.as_ref(), searches);
                if now < until || punch.won().is_some() {
                    return punch.handle_timeout(now, &mut self.out);
                }
                let (tried, heard) = (punch.tried(), punch.heard_any());
                let peer = self.meeting.as_ref().map_or(Nat::default(), |meeting| meeting.nat);
                let (own, searched) = (self.setup.nat, searches.is_some());
                let plain = self.setup.session.punch == Level::Plain;
                let trouble = Trouble::NoPath { own, peer, tried, heard, plain, searched, relay: None };
                match self.setup.relay.filter(|_| now < deadline && (tried == 0 || !self.may_meet_again(peer))) {
                    Some(at) => self.begin_relaying(now, at, trouble),
                    None => self.fail(trouble),
                }
            }
            Stage::Relaying(relaying) if now >= deadline && self.result.is_none() => {
                let trouble = relaying.trouble.clone();
                self.fail(trouble);
            }
            Stage::Relaying(relaying) if !relaying.both && relaying.next <= now => {
                relaying.next = now + relaying.pause;
                relaying.pause = (relaying.pause * 3 / 2).min(LONGEST_PAUSE);
                let at = relaying.at;
                let bind = self.bind();
                self.out.extend(bind.map(|bind| (at, bind)));
            }
            Stage::Relaying(_) => {}
            Stage::Introducing { .. } | Stage::Over => {}
        }
    }

    /// The asking side goes on to another round before it asks the relay, where that is not hopeless.
    fn may_meet_again(&self, peer: Nat) -> bool {
        let asking = matches!(self.goal, Goal::Ask { .. });
        asking && self.round() + 1 < ROUNDS && nat::hindrance(self.setup.nat, peer).is_none()
    }

    fn begin_relaying(&mut self, now: Instant, at: SocketAddr, trouble: Trouble) {
        let pause = self.setup.round_trip.map_or(FIRST_PAUSE, |time| (time * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        self.stage = Stage::Relaying(Relaying { at, next: now, pause, both: false, trouble });
        self.handle_timeout(now);
    }

    fn bind(&self) -> Option<Vec<u8>> {
        let Setup { session, ours, cookie, .. } = &self.setup;
        let meeting = self.meeting.as_ref()?;
        let attempt = match &self.goal {
            Goal::Ask { .. } => *ours,
            Goal::Meet { introduction } => introduction.attempt,
        };
        let (cookie, peer, nonce) = (cookie.clone(), meeting.peer, meeting.nonce);
        let head = Head { session: session.id, member: session.host, sender: *ours, receiver: WireId(0) };
        Some(head.encode(&session.key, &Said::Bind(Bind { cookie, peer, attempt, nonce })))
    }

    /// What is said of this side's. Where a flow is to move, its socket has been seen by the server before: which port comes next
    /// is not known, and another socket is of no use.
    fn own_nat(&self) -> Nat {
        let moves = match &self.goal {
            Goal::Ask { moves, .. } => moves.is_some(),
            Goal::Meet { introduction } => introduction.moves.is_some(),
        };
        if moves { Nat { step: 0, search: false, ..self.setup.nat } } else { self.setup.nat }
    }

    fn question(&self) -> Vec<u8> {
        let Setup { session, ours, locals, cookie, mapped, round_trip, .. } = &self.setup;
        let head = Head { session: session.id, member: session.host, sender: *ours, receiver: WireId(0) };
        let round_trip_us = round_trip.map_or(0, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        let (cookie, locals, nat, mapped) = (cookie.clone(), locals.clone(), self.own_nat(), *mapped);
        let said = match &self.goal {
            Goal::Ask { name, peer, round, moves } => Said::Introduce(Introduce {
                cookie,
                name: name.clone(),
                peer: *peer,
                locals,
                round: *round,
                nat,
                mapped,
                round_trip_us,
                moves: *moves,
            }),
            Goal::Meet { introduction } => Said::Meet(Meet {
                cookie,
                attempt: introduction.attempt,
                nonce: introduction.nonce,
                locals,
                nat,
                mapped,
                round_trip_us,
            }),
        };
        head.encode(&session.key, &said)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.setup.deadline;
        match &self.stage {
            Stage::Introducing { next, .. } => Some(deadline.min(*next)),
            Stage::Punching(punch) if punch.won().is_none() => {
                let asking = matches!(self.goal, Goal::Ask { .. });
                let until = until(punch, asking, &self.setup, self.meeting.as_ref(), self.searches_until());
                [punch.poll_timeout(), self.next_of_search(punch), Some(until)].into_iter().flatten().min()
            }
            Stage::Relaying(relaying) if self.result.is_none() => {
                Some(if relaying.both { deadline } else { deadline.min(relaying.next) })
            }
            Stage::Punching(_) | Stage::Relaying(_) | Stage::Over => None,
        }
    }
}

/// Until when hellos go out. The asked side waits for the other's word until its deadline, unless there is a relay to ask.
fn until(punch: &Punch, asking: bool, setup: &Setup, meeting: Option<&Meeting>, searches: Option<Instant>) -> Instant {
    let peer = meeting.map_or(Nat::default(), |meeting| meeting.nat);
    let hopeless = setup.relay.is_some() && nat::hindrance(setup.nat, peer).is_some();
    let asked_router = setup.mapped.flow.or(meeting.and_then(|meeting| meeting.mapped.flow)).is_some();
    let patience = if asked_router { MAPPED } else { HOPELESS };
    let round = if hopeless { punch.begins() + patience } else { punch.until() };
    let round = searches.map_or(round, |until| until.max(round));
    if asking || setup.relay.is_some() { round.min(setup.deadline) } else { setup.deadline }
}

/// The other side reached this one where this one's router maps it.
fn through_own(won: Won, mapped: Mapped) -> Won {
    if won.seen_at.is_some() && won.seen_at == mapped.flow { Won { way: Way::Mapped, ..won } } else { won }
}

fn relayed(at: SocketAddr) -> Won {
    Won { at, way: Way::Relayed, round_trip: Duration::ZERO, seen_at: None }
}

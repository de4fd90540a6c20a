//! Hellos between two flows' sockets: which of the other's addresses works, and which is taken.
//!
//! Each address has a challenge of its own, so an answer tells which of them it was that arrived. An address that nobody
//! named is tried, too, once a sealed hello came from it: the way behind a symmetric NAT.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::HostId;
use proto::rendezvous::{AttemptKey, Head, Hello, Meeting, Said, is_candidate, is_public};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::Sends;

/// Between the first two hellos to an address; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// To one address.
const MOST_HELLOS: u32 = 10;
/// To one that was only predicted and from where nothing was heard: the first one opens this side's filter.
const MOST_PREDICTED: u32 = 2;
/// The same answer to the same hello: so often to one address.
const MOST_ANSWERS: u32 = 20;
/// Addresses that the other's introduction may name.
const MOST_NAMED: usize = 10;
/// With those that hellos came from.
const MOST_TRIES: usize = 16;
/// Nothing works until then: a round is over.
const ROUND: Duration = Duration::from_millis(1600);

/// What an address is to this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// The other's own: both are in one network.
    Local,
    /// Where the server sees the other.
    Public,
    /// The port that a NAT gave: nobody named it, and a hello came from there; or a router was asked for it, by either side.
    Mapped,
    /// The other's NAT was expected to give it next.
    Predicted,
    /// The server's relay.
    Relayed,
}

impl Way {
    /// As listings have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Public => "public",
            Self::Mapped => "mapped",
            Self::Predicted => "predicted",
            Self::Relayed => "relayed",
        }
    }
}

/// The path that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Won {
    /// The other side's address.
    pub at: SocketAddr,
    /// What it is.
    pub way: Way,
    /// From a hello to its answer; nothing where it is not known.
    pub round_trip: Duration,
    /// Where the other side sees this one, if it said so.
    pub seen_at: Option<SocketAddr>,
}

/// One side of the hellos.
#[derive(Clone, Debug)]
pub struct Punch {
    head: Head,
    peer: HostId,
    key: AttemptKey,
    asking: bool,
    seen_at: SocketAddr,
    locals: Vec<SocketAddr>,
    tries: Vec<Try>,
    begins: Instant,
    until: Instant,
    won: Option<Won>,
}

#[derive(Clone, Debug)]
struct Try {
    to: SocketAddr,
    way: Way,
    challenge: u64,
    sent: u32,
    first: Option<Instant>,
    next: Instant,
    pause: Duration,
    answers: u32,
    /// A sealed word came from there, or seemed to.
    heard: bool,
    /// What was sent there arrived.
    proven: bool,
    /// As coming from there.
    seen_at: Option<SocketAddr>,
}

impl Try {
    fn may_go_on(&self) -> bool {
        let unheard = self.way == Way::Predicted && !self.heard;
        self.sent < if unheard { MOST_PREDICTED } else { MOST_HELLOS }
    }
}

impl Punch {
    /// Begins once `meeting` came. `head`: this side as the sender, the other's id as the receiver. `locals`: this socket's own.
    /// `predicted`: where the other may be seen by this side. They come first: where both sides' ports are counted up, each one's
    /// n-th hello goes to the port of the other's n-th.
    #[expect(clippy::too_many_arguments, reason = "what an attempt begins with, each of another kind")]
    pub fn new(
        now: Instant,
        asking: bool,
        head: Head,
        key: AttemptKey,
        meeting: &Meeting,
        locals: &[SocketAddr],
        predicted: impl Iterator<Item = SocketAddr>,
        rng: &mut ChaCha12Rng,
    ) -> Self {
        let start = now + Duration::from_micros(meeting.start_us.into()).min(Duration::from_secs(2));
        let mut punch = Self {
            head,
            peer: meeting.peer,
            key,
            asking,
            seen_at: meeting.own_public,
            locals: locals.to_vec(),
            tries: Vec::new(),
            begins: start,
            until: start + ROUND,
            won: None,
        };
        for to in predicted.filter(|to| is_candidate(*to)) {
            punch.try_address(to, Way::Predicted, start, rng);
        }
        let reaches = |at: &SocketAddr| at.ip() == meeting.public.ip() || is_public(at.ip());
        let mapped = meeting.mapped.flow.filter(reaches).map(|at| (at, Way::Mapped));
        let named = std::iter::once((meeting.public, Way::Public)).chain(mapped);
        for (to, way) in named.chain(meeting.locals.iter().map(|local| (*local, Way::Local))) {
            let own = locals.contains(&to) || to == meeting.own_public;
            let family = locals.first().is_none_or(|own| own.is_ipv4() == to.is_ipv4());
            if punch.count() < MOST_NAMED && is_candidate(to) && !own && family {
                punch.try_address(to, way, start, rng);
            }
        }
        let all = std::iter::once(&meeting.public).chain(&meeting.locals);
        if locals.first().is_some_and(|own| all.clone().all(|to| to.is_ipv4() != own.is_ipv4())) {
            // Of the other IP version: this socket reaches none of them and is reached by none.
            punch.until = start;
        }
        punch
    }

    fn try_address(&mut self, to: SocketAddr, way: Way, at: Instant, rng: &mut ChaCha12Rng) {
        let full = way != Way::Predicted && self.count() >= MOST_TRIES;
        if full || self.tries.iter().any(|known| known.to == to) {
            return;
        }
        let challenge = rng.next_u64().max(1);
        self.tries.push(Try {
            to,
            way,
            challenge,
            sent: 0,
            first: None,
            next: at,
            pause: FIRST_PAUSE,
            answers: 0,
            heard: false,
            proven: false,
            seen_at: None,
        });
    }

    /// Where the flow was until now: hellos go there before they go anywhere else, and as many as to what was named.
    pub fn try_first(&mut self, to: SocketAddr, way: Way, rng: &mut ChaCha12Rng) {
        let way = if way == Way::Predicted { Way::Mapped } else { way };
        self.tries.retain(|known| known.to != to || known.way != Way::Predicted);
        self.try_address(to, way, self.begins, rng);
        if let Some(at) = self.tries.iter().position(|known| known.to == to) {
            self.tries[..=at].rotate_right(1);
        }
    }

    /// Addresses that are tried, but for those that were predicted.
    fn count(&self) -> usize {
        self.tries.iter().filter(|known| known.way != Way::Predicted).count()
    }

    /// The path, once there is one. The asking side's choice; the other knows it from CHOSEN.
    pub fn won(&self) -> Option<Won> {
        self.won
    }

    /// Whether the other side was heard from there, under the attempt's seal.
    pub fn was_heard(&self, from: SocketAddr) -> Option<Way> {
        self.tries.iter().find(|known| known.to == from && known.heard).map(|known| known.way)
    }

    /// Whether only the other side's word stands for the address, or what seems to have come from there: it may be anybody's.
    pub fn is_guess(&self, to: SocketAddr) -> bool {
        self.tries.iter().any(|known| known.to == to && known.way != Way::Public && !known.proven)
    }

    /// Whether the other side was heard at all.
    pub fn heard_any(&self) -> bool {
        self.tries.iter().any(|known| known.heard)
    }

    /// Addresses that were tried.
    pub fn tried(&self) -> usize {
        self.tries.len()
    }

    /// As whom this side speaks, and the key that its words are sealed with.
    pub fn speaks(&self) -> (Head, AttemptKey) {
        (self.head, self.key.clone())
    }

    /// The key that the other's words are sealed with.
    pub fn key(&self) -> &AttemptKey {
        &self.key
    }

    /// The other side took the path by another word than CHOSEN.
    pub fn take(&mut self, from: SocketAddr) -> Option<Won> {
        let way = self.was_heard(from)?;
        let seen_at = self.tries.iter().find(|known| known.to == from).and_then(|known| known.seen_at);
        Some(*self.won.get_or_insert(Won { at: from, way, round_trip: Duration::ZERO, seen_at }))
    }

    /// Whether the header of a datagram is what the other side would write.
    pub fn is_from_peer(&self, head: &Head) -> bool {
        *head
            == Head {
                session: self.head.session,
                member: self.peer,
                sender: self.head.receiver,
                receiver: self.head.sender,
            }
    }

    /// A datagram of the other side, its seal checked. Says whether it made sense.
    pub fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        said: &Said,
        rng: &mut ChaCha12Rng,
        out: &mut Sends,
    ) -> bool {
        match said {
            Said::Hello(hello) => self.hello(now, from, hello, rng, out),
            Said::HelloAnswer(answer) => self.answer(now, from, answer, rng, out),
            Said::Chosen(chosen) => self.chosen(from, chosen),
            _ => return false,
        }
        true
    }

    fn hello(&mut self, now: Instant, from: SocketAddr, hello: &Hello, rng: &mut ChaCha12Rng, out: &mut Sends) {
        self.try_address(from, Way::Mapped, now, rng);
        let said = |challenge, echo| Hello { challenge, echo, seen_at: from, locals: Vec::new() };
        let (won, head, key) = (self.won.is_some(), self.head, self.key.clone());
        let Some(known) = self.tries.iter_mut().find(|known| known.to == from) else { return };
        if known.answers < MOST_ANSWERS {
            known.answers += 1;
            let answer = Said::HelloAnswer(said(known.challenge, hello.challenge));
            out.push_back((from, head.encode_between(&key, &answer)));
            // It says hello still: it has not heard that this path was chosen.
            if self.asking && self.won.is_some_and(|won| won.at == from) {
                let chosen = Said::Chosen(said(known.challenge, hello.challenge));
                out.push_back((from, head.encode_between(&key, &chosen)));
            }
        }
        // What was sent there before may have met a closed door; it is open now.
        if !known.heard && !won && known.sent < MOST_HELLOS {
            known.next = known.next.min(now);
        }
        known.heard = true;
        self.handle_timeout(now, out);
    }

    fn answer(&mut self, now: Instant, from: SocketAddr, answer: &Hello, rng: &mut ChaCha12Rng, out: &mut Sends) {
        let Some(tried) = self.tries.iter_mut().find(|known| known.challenge == answer.echo) else { return };
        if tried.to != from {
            // It arrived, and was answered from elsewhere: that has to work both ways by itself.
            self.try_address(from, Way::Mapped, now, rng);
            return self.handle_timeout(now, out);
        }
        (tried.heard, tried.proven, tried.seen_at) = (true, true, Some(answer.seen_at));
        let exact = tried.first.filter(|_| tried.sent == 1);
        let round_trip = exact.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let (way, challenge) = (tried.way, tried.challenge);
        if self.asking && self.won.is_none() {
            self.won = Some(Won { at: from, way, round_trip, seen_at: Some(answer.seen_at) });
        }
        if self.asking && self.won.is_some_and(|won| won.at == from) {
            let chosen = Hello { challenge, echo: answer.challenge, seen_at: from, locals: Vec::new() };
            out.push_back((from, self.head.encode_between(&self.key, &Said::Chosen(chosen))));
        }
    }

    fn chosen(&mut self, from: SocketAddr, chosen: &Hello) {
        let Some(known) = self.tries.iter_mut().find(|known| known.to == from) else { return };
        if !self.asking && known.challenge == chosen.echo {
            (known.heard, known.proven) = (true, true);
            let way = known.way;
            let seen_at = Some(chosen.seen_at);
            self.won.get_or_insert(Won { at: from, way, round_trip: Duration::ZERO, seen_at });
        }
    }

    /// Time has passed: hellos that are due go out.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Sends) {
        if self.won.is_some() {
            return;
        }
        let (head, key, seen_at) = (self.head, self.key.clone(), self.seen_at);
        for known in self.tries.iter_mut().filter(|known| known.next <= now && known.may_go_on()) {
            let locals = self.locals.clone();
            let hello = Said::Hello(Hello { challenge: known.challenge, echo: 0, seen_at, locals });
            out.push_back((known.to, head.encode_between(&key, &hello)));
            known.sent += 1;
            known.first.get_or_insert(now);
            known.next = now + known.pause;
            known.pause = (known.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.tries.iter().filter(|known| known.may_go_on()).map(|known| known.next);
        due.min().filter(|_| self.won.is_none())
    }

    /// The first hello goes out then.
    pub fn begins(&self) -> Instant {
        self.begins
    }

    /// Nothing works by then.
    pub fn until(&self) -> Instant {
        self.until
    }
}

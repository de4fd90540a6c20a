//! Who speaks over UDP: a session for each client, ended by silence, bounded in number.
//!
//! A datagram from a client nobody knows makes a session. One that the target never answered ends sooner, and makes room for
//! a newcomer when all places are taken: forged sources keep nobody out for longer than an answer takes, and never cost a
//! session that is spoken on both ways.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Bounds of a rule's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sessions at a time.
    pub most: usize,
    /// One that nobody says anything on is over after this.
    pub idle: Duration,
    /// One that the target has not answered yet is over after this, if it is less.
    pub unanswered: Duration,
}

impl Bounds {
    fn silence(&self, answered: bool) -> Duration {
        if answered { self.idle } else { self.idle.min(self.unanswered) }
    }
}

/// A session's place and which of those that had the place it is: a number that comes late names no later session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    place: u32,
    turn: u32,
}

impl SessionId {
    /// The place: smaller than [`Bounds::most`], free again when the session is over.
    pub fn place(self) -> usize {
        self.place as usize
    }

    /// As one number.
    pub fn number(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.place)
    }

    /// Back from [`Self::number`].
    pub fn from_number(number: u64) -> Self {
        let (place, turn) = (number & u64::from(u32::MAX), number >> 32);
        Self { place: u32::try_from(place).unwrap_or(u32::MAX), turn: u32::try_from(turn).unwrap_or(u32::MAX) }
    }
}

/// What a client's datagram means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It belongs to this session.
    Known(SessionId),
    /// It begins this session. The other one, if any, is over: it had to make room.
    New(SessionId, Option<SessionId>),
    /// All places are taken by sessions that are spoken on both ways.
    Full,
}

#[derive(Debug)]
struct Session<K> {
    client: K,
    turn: u32,
    begun: Instant,
    last: Instant,
    answered: bool,
    /// Its entry in the timers.
    due: Instant,
}

/// The sessions of one rule; clients are told apart by `K`.
#[derive(Debug)]
pub struct Sessions<K> {
    bounds: Bounds,
    by_client: HashMap<K, u32>,
    places: Vec<Place<K>>,
    free: Vec<u32>,
    timers: BTreeSet<(Instant, u32)>,
    unanswered: BTreeSet<(Instant, u32)>,
}

#[derive(Debug)]
enum Place<K> {
    /// Free; the next session in it has this turn.
    Free(u32),
    Taken(Session<K>),
}

impl<K: Copy + Eq + Hash> Sessions<K> {
    /// None yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            by_client: HashMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            timers: BTreeSet::new(),
            unanswered: BTreeSet::new(),
        }
    }

    /// From now on these bounds hold. Sessions beyond the new number go on; no new one begins until there are fewer.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        let places = 0..u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        places.for_each(|place| self.arm(place));
    }

    /// Whether a newcomer would get a place: cheap to ask before a socket is made for it.
    pub fn has_room(&self) -> bool {
        self.by_client.len() < self.bounds.most
            || self.by_client.len() == self.bounds.most && !self.unanswered.is_empty()
    }

    /// Ends the session that waits longest for its first answer, so that there is room for another; none: all are spoken on both
    /// ways.
    pub fn make_room(&mut self) -> Option<SessionId> {
        let &(_, oldest) = self.unanswered.first()?;
        let evicted = self.id(oldest);
        self.free_place(oldest);
        evicted
    }

    /// The session of a client, if there is one.
    pub fn find(&self, client: &K) -> Option<SessionId> {
        self.by_client.get(client).and_then(|place| self.id(*place))
    }

    /// A datagram came from a client.
    pub fn from_client(&mut self, now: Instant, client: K) -> Arrival {
        if let Some(&place) = self.by_client.get(&client)
            && let Place::Taken(session) = &mut self.places[place as usize]
        {
            session.last = session.last.max(now);
            return Arrival::Known(SessionId { place, turn: session.turn });
        }
        let mut evicted = None;
        if self.by_client.len() >= self.bounds.most {
            // Where bounds became narrower one that goes would not make room.
            let room = self.by_client.len() == self.bounds.most;
            if !room {
                return Arrival::Full;
            }
            evicted = self.make_room();
            if evicted.is_none() {
                return Arrival::Full;
            }
        }
        Arrival::New(self.begin(now, client), evicted)
    }

    fn begin(&mut self, now: Instant, client: K) -> SessionId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::Free(0));
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let turn = match &self.places[place as usize] {
            Place::Free(turn) => *turn,
            Place::Taken(session) => session.turn,
        };
        let due = now + self.bounds.silence(false);
        self.places[place as usize] =
            Place::Taken(Session { client, turn, begun: now, last: now, answered: false, due });
        self.by_client.insert(client, place);
        self.timers.insert((due, place));
        self.unanswered.insert((now, place));
        SessionId { place, turn }
    }

    /// A datagram came from a session's target: its client, if the session is not over.
    pub fn from_target(&mut self, now: Instant, id: SessionId) -> Option<K> {
        let session = self.get_mut(id)?;
        session.last = session.last.max(now);
        let (client, begun, first) = (session.client, session.begun, !session.answered);
        session.answered = true;
        if first {
            self.unanswered.remove(&(begun, id.place));
            self.arm(id.place);
        }
        Some(client)
    }

    /// A session's client.
    pub fn client(&self, id: SessionId) -> Option<K> {
        match self.places.get(id.place())? {
            Place::Taken(session) if session.turn == id.turn => Some(session.client),
            _ => None,
        }
    }

    /// Ends a session that broke; whether there was one.
    pub fn end(&mut self, id: SessionId) -> bool {
        let there = self.get_mut(id).is_some();
        if there {
            self.free_place(id.place);
        }
        there
    }

    /// The next session that is over because nobody said anything.
    pub fn poll_silent(&mut self, now: Instant) -> Option<SessionId> {
        while let Some(&(due, place)) = self.timers.first()
            && due <= now
        {
            let (id, Place::Taken(session)) = (self.id(place)?, &self.places[place as usize]) else { return None };
            if session.last + self.bounds.silence(session.answered) <= now {
                self.free_place(place);
                return Some(id);
            }
            self.arm(place);
        }
        None
    }

    /// When to ask [`Self::poll_silent`] again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// All that are not over.
    pub fn iter(&self) -> impl Iterator<Item = SessionId> {
        self.by_client.values().filter_map(|place| self.id(*place))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    fn id(&self, place: u32) -> Option<SessionId> {
        match self.places.get(place as usize)? {
            Place::Taken(session) => Some(SessionId { place, turn: session.turn }),
            Place::Free(_) => None,
        }
    }

    fn get_mut(&mut self, id: SessionId) -> Option<&mut Session<K>> {
        match self.places.get_mut(id.place())? {
            Place::Taken(session) if session.turn == id.turn => Some(session),
            _ => None,
        }
    }

    /// The timer of a session, by what is known of it.
    fn arm(&mut self, place: u32) {
        let Some(Place::Taken(session)) = self.places.get_mut(place as usize) else { return };
        self.timers.remove(&(session.due, place));
        session.due = session.last + self.bounds.silence(session.answered);
        self.timers.insert((session.due, place));
    }

    fn free_place(&mut self, place: u32) {
        let Place::Taken(session) = &self.places[place as usize] else { return };
        let next = session.turn.wrapping_add(1);
        self.by_client.remove(&session.client);
        self.timers.remove(&(session.due, place));
        self.unanswered.remove(&(session.begun, place));
        self.places[place as usize] = Place::Free(next);
        self.free.push(place);
    }
}

#[cfg(test)]
mod tests;

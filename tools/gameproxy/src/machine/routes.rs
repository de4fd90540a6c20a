//! The routing table: a place for each player, found by its key, pruned by silence, bounded in number.
//!
//! A key begins with what the player comes through (a flow), or the table is that flow's own. A number that comes late (of a
//! socket that was just closed) names no later route: places count their turns.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::said::rule::{Prune, Silence};

/// A route's place, and which of those that had the place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId {
    place: u32,
    turn: u32,
}

impl RouteId {
    /// As one number; the highest bit is free.
    pub fn number(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.place)
    }

    /// Back from [`Self::number`].
    pub fn from_number(number: u64) -> Self {
        Self { place: (number & u64::from(u32::MAX)) as u32, turn: (number >> 32) as u32 }
    }
}

/// Who says something on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The player.
    Player,
    /// The game server.
    Server,
}

/// Why a route is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Over {
    /// The player was silent.
    PlayerSilent = 1,
    /// The server was.
    ServerSilent = 2,
    /// A new player needed the place, and the server had never answered this one.
    Evicted = 3,
    /// The other side said so.
    Told = 4,
    /// Its redirect is gone, or does not let it in any more.
    Removed = 5,
    /// The proxy ends, or what the player came through.
    Stopped = 6,
    /// Nobody was at its server, and there is another.
    Unreachable = 7,
}

impl Over {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::PlayerSilent,
        Self::ServerSilent,
        Self::Evicted,
        Self::Told,
        Self::Removed,
        Self::Stopped,
        Self::Unreachable,
    ];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::PlayerSilent => "the player was silent",
            Self::ServerSilent => "the server was silent",
            Self::Evicted => "a new player needed its place",
            Self::Told => "the other side said so",
            Self::Removed => "the rules have no place for it any more",
            Self::Stopped => "the way is gone",
            Self::Unreachable => "nobody was at its server",
        }
    }
}

#[derive(Debug)]
struct Route<K, T> {
    key: K,
    value: T,
    prune: Prune,
    last: [Instant; 2],
    answered: bool,
}

#[derive(Debug)]
struct Slot<K, T> {
    turn: u32,
    route: Option<Route<K, T>>,
}

/// Routes with keys `K` and what belongs to them, `T`.
#[derive(Debug)]
pub struct Routes<K, T> {
    most: usize,
    by_key: HashMap<K, RouteId>,
    slots: Vec<Slot<K, T>>,
    free: Vec<u32>,
    timers: BinaryHeap<Reverse<(Instant, RouteId)>>,
    /// In the order of their beginning; those that were answered or are over are passed by.
    unanswered: VecDeque<RouteId>,
}

impl<K: Copy + Eq + Hash, T> Routes<K, T> {
    /// None yet, and `most` at a time.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            by_key: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            unanswered: VecDeque::new(),
        }
    }

    /// A player's route.
    pub fn find(&self, key: &K) -> Option<RouteId> {
        self.by_key.get(key).copied()
    }

    /// The route that has to make room for another: the oldest that was never answered. Made-up players keep nobody out who
    /// comes after them, and cost nobody a route that is spoken on both ways.
    pub fn to_evict(&mut self) -> Option<RouteId> {
        while let Some(id) = self.unanswered.front() {
            if self.route(*id).is_some_and(|route| !route.answered) {
                return Some(*id);
            }
            self.unanswered.pop_front();
        }
        None
    }

    /// Whether there is room for another.
    pub fn has_room(&self) -> bool {
        self.by_key.len() < self.most
    }

    /// A route for a player who has none and just said something; `None` when all places are taken.
    pub fn open(&mut self, now: Instant, key: K, prune: Prune, value: T) -> Option<RouteId> {
        if !self.has_room() || self.by_key.contains_key(&key) {
            return None;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { turn: 0, route: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[place as usize];
        let id = RouteId { place, turn: slot.turn };
        slot.route = Some(Route { key, value, prune, last: [now; 2], answered: false });
        self.by_key.insert(key, id);
        self.tidy();
        self.timers.push(Reverse((now + prune.after, id)));
        self.unanswered.push_back(id);
        Some(id)
    }

    /// What short-lived routes left behind is taken away before it is more than what lives.
    fn tidy(&mut self) {
        let bound = 2 * self.by_key.len() + 1024;
        if self.timers.len() > bound || self.unanswered.len() > bound {
            let (slots, there) =
                (&self.slots, |slots: &[Slot<K, T>], id: &RouteId| slots[id.place as usize].turn == id.turn);
            self.timers.retain(|Reverse((_, id))| there(slots, id));
            self.unanswered.retain(|id| {
                there(slots, id) && slots[id.place as usize].route.as_ref().is_some_and(|route| !route.answered)
            });
        }
    }

    /// Somebody said something.
    pub fn heard(&mut self, now: Instant, id: RouteId, side: Side) -> Option<&mut T> {
        let route = self.route_mut(id)?;
        let last = &mut route.last[side as usize];
        *last = now.max(*last);
        route.answered |= side == Side::Server;
        Some(&mut route.value)
    }

    /// A route's key and what belongs to it.
    pub fn get(&self, id: RouteId) -> Option<(&K, &T)> {
        self.route(id).map(|route| (&route.key, &route.value))
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: RouteId) -> Option<(&K, &mut T)> {
        self.route_mut(id).map(|route| (&route.key, &mut route.value))
    }

    /// From now on a route is over after another silence.
    pub fn set_prune(&mut self, now: Instant, id: RouteId, prune: Prune) {
        if let Some(route) = self.route_mut(id)
            && route.prune != prune
        {
            route.prune = prune;
            // Earlier than the entry that is there, perhaps; each finds out what is due.
            self.timers.push(Reverse((now, id)));
        }
    }

    /// Whether its server ever said something.
    pub fn answered(&self, id: RouteId) -> bool {
        self.route(id).is_some_and(|route| route.answered)
    }

    /// Ends a route.
    pub fn close(&mut self, id: RouteId) -> Option<(K, T)> {
        let slot = self.slots.get_mut(id.place as usize).filter(|slot| slot.turn == id.turn)?;
        let route = slot.route.take()?;
        // The highest bit of a number is its owner's.
        slot.turn = (slot.turn + 1) & 0x7fff_ffff;
        self.by_key.remove(&route.key);
        self.free.push(id.place);
        Some((route.key, route.value))
    }

    /// The next route that somebody was silent on for too long, and who.
    pub fn poll_silent(&mut self, now: Instant) -> Option<(RouteId, Over)> {
        while let Some(Reverse((due, id))) = self.timers.peek().copied() {
            if due > now {
                break;
            }
            self.timers.pop();
            let Some(route) = self.route(id) else { continue };
            let (due, over) = route.end();
            if due <= now {
                return Some((id, over));
            }
            self.timers.push(Reverse((due, id)));
        }
        None
    }

    /// How long nobody has said anything on a route.
    pub fn silence(&self, now: Instant, id: RouteId) -> Option<Duration> {
        self.route(id).map(|route| now.saturating_duration_since(route.last[0].max(route.last[1])))
    }

    /// Has [`Self::poll_silent`] name a route that it named before once more, if all stay silent until then.
    pub fn look_again(&mut self, at: Instant, id: RouteId) {
        self.timers.push(Reverse((at, id)));
    }

    /// When to ask [`Self::poll_silent`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (RouteId, &K, &T)> {
        self.by_key.values().filter_map(|id| self.get(*id).map(|(key, value)| (*id, key, value)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn route(&self, id: RouteId) -> Option<&Route<K, T>> {
        self.slots.get(id.place as usize).filter(|slot| slot.turn == id.turn)?.route.as_ref()
    }

    fn route_mut(&mut self, id: RouteId) -> Option<&mut Route<K, T>> {
        self.slots.get_mut(id.place as usize).filter(|slot| slot.turn == id.turn)?.route.as_mut()
    }
}

impl<K, T> Route<K, T> {
    /// When it is over if nobody says anything until then, and by whose silence.
    fn end(&self) -> (Instant, Over) {
        let [player, server] = self.last;
        let by_player = match self.prune.of {
            Silence::Either => player <= server,
            Silence::Both => player >= server,
        };
        let wait = |last: Instant| last.checked_add(self.prune.after).unwrap_or(last + Duration::from_secs(1 << 30));
        if by_player { (wait(player), Over::PlayerSilent) } else { (wait(server), Over::ServerSilent) }
    }
}

#[cfg(test)]
mod tests;

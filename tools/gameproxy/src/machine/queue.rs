//! What waits: a bounded queue for each player and direction, released in the order of deadlines.
//!
//! A [`Queue`] holds one player's datagrams of one direction; an [`Agenda`] knows which queues to look at when. Both are
//! generic over what waits, so that who owns them decides where the bytes are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::said::rule::{Full, Way};

/// What becomes of a datagram that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes at once.
    Now,
    /// It goes then.
    At(Instant),
    /// It is lost, as was wished.
    Lost,
}

/// Decides by chance, from a seed.
#[derive(Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The same seed, the same decisions.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// What becomes of a datagram that came `now`, on a way whose delay is longer by `more`.
    pub fn fate(&mut self, now: Instant, way: &Way, more: Duration) -> Fate {
        if way.loss > 0 && self.below(1_000_000) < u64::from(way.loss) {
            return Fate::Lost;
        }
        let mut wait = way.delay + more;
        if !way.jitter.is_zero() {
            let micros = u64::try_from(way.jitter.as_micros()).unwrap_or(u64::MAX - 1);
            wait += Duration::from_micros(self.below(micros + 1));
        }
        if wait.is_zero() { Fate::Now } else { Fate::At(now + wait) }
    }

    /// A number smaller than `bound`; the bias is smaller than one in 2^32 where bounds are below that.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// One player's datagrams of one direction, by their deadlines.
#[derive(Debug)]
pub struct Queue<T> {
    items: VecDeque<Item<T>>,
    /// The earliest entry that the agenda has of this queue.
    armed: Option<Instant>,
}

/// One that waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Item<T> {
    /// When it goes.
    pub due: Instant,
    /// When it came.
    pub came: Instant,
    /// It.
    pub what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), armed: None }
    }
}

impl<T> Queue<T> {
    /// Puts one in its place. When there is no room one is dropped: returned.
    pub fn push(&mut self, item: Item<T>, room: u16, full: Full) -> Option<T> {
        let mut dropped = None;
        if self.items.len() >= usize::from(room.max(1)) {
            match full {
                Full::DropNew => return Some(item.what),
                Full::DropOld => dropped = self.items.pop_front().map(|old| old.what),
            }
        }
        // Jitter lets one overtake others; of those with the same deadline the first stays first.
        let later = self.items.iter().rev().take_while(|other| other.due > item.due).count();
        self.items.insert(self.items.len() - later, item);
        dropped
    }

    /// The next that is due.
    pub fn pop(&mut self, now: Instant) -> Option<Item<T>> {
        if self.items.front()?.due > now {
            return None;
        }
        self.items.pop_front()
    }

    /// The next, due or not: it is not to go.
    pub fn pop_front(&mut self) -> Option<T> {
        self.items.pop_front().map(|item| item.what)
    }

    /// One that could not go is the next again.
    pub fn put_back(&mut self, item: Item<T>) {
        self.items.push_front(item);
    }

    /// When the next is due.
    pub fn due(&self) -> Option<Instant> {
        self.items.front().map(|item| item.due)
    }

    /// All of them, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Item<T>> {
        self.armed = None;
        self.items.drain(..)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// Which queues to look at when; `Q` names a queue.
#[derive(Debug)]
pub struct Agenda<Q> {
    entries: BinaryHeap<Reverse<(Instant, Q)>>,
}

impl<Q: Ord + Copy> Default for Agenda<Q> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new() }
    }
}

impl<Q: Ord + Copy> Agenda<Q> {
    /// The queue has changed. Dropping the old only makes it later, which the entry that is there finds out.
    pub fn arm<T>(&mut self, name: Q, queue: &mut Queue<T>) {
        let Some(due) = queue.due() else { return };
        self.arm_at(name, queue, due);
    }

    /// The queue is to be looked at then, whatever its deadlines.
    pub fn arm_at<T>(&mut self, name: Q, queue: &mut Queue<T>, due: Instant) {
        if queue.armed.is_none_or(|armed| due < armed) {
            queue.armed = Some(due);
            self.entries.push(Reverse((due, name)));
        }
    }

    /// The next queue to look at, whose entry is taken: [arm](Self::arm) it again afterwards. It may have been closed, or have
    /// nothing due.
    pub fn poll(&mut self, now: Instant) -> Option<(Instant, Q)> {
        let Reverse((due, _)) = self.entries.peek()?;
        if *due > now {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// When to [poll](Self::poll).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((due, _))| *due)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T> Queue<T> {
    /// The agenda's entry of this moment was taken; those that are later stay.
    pub fn disarm(&mut self, entry: Instant) {
        if self.armed.is_some_and(|armed| armed >= entry) {
            self.armed = None;
        }
    }
}

#[cfg(test)]
mod tests;

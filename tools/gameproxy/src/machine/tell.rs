//! How client sides learn what is offered: the client side says what it has, again and again, the server side what there is.
//! What is lost on the way is said or asked for again by the client side alone; the server side keeps nothing.
//!
//! ```text
//! client side                          server side
//! have 0, own addresses        ──►     is 7, length; part …, part …        (what is another)
//! want 7, the parts missing    ──►     part …                              (what was lost)
//! have 7                       ──►     is 7                                (each second: also the round trip)
//!                              ◄──     is 8                                (its rules have changed)
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::front::Front;
use super::line::smooth;
use crate::said::offer::{AT_ONCE, About, LONGEST, MOST_OWN, Offer, PART, number};

/// How often a client side says what it has.
pub const EVERY: Duration = Duration::from_secs(1);
/// How soon it does so again at first, and asks again for what did not come.
const AGAIN: Duration = Duration::from_millis(100);

/// What a server side says of its offer.
#[derive(Clone, Debug)]
pub struct Teller {
    bytes: Arc<[u8]>,
    number: u64,
}

impl Teller {
    /// Of this offer; `None`: it is longer than any client side takes.
    pub fn new(offer: &Offer) -> Option<Self> {
        let bytes = offer.bytes();
        let number = number(&bytes);
        (bytes.len() <= LONGEST).then(|| Self { bytes: bytes.into(), number })
    }

    /// The offer's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// That there is another offer than before.
    pub fn news(&self) -> About<'static> {
        self.is(0, None)
    }

    /// What is answered to a client side that is seen at an address: each in an SDU of its own.
    pub fn answer(&self, about: &About<'_>, seen: Option<IpAddr>) -> Vec<About<'_>> {
        match *about {
            About::Have { number, time, .. } => {
                let mut answer = vec![self.is(time, seen)];
                if number != self.number {
                    answer.extend(self.parts(0, AT_ONCE));
                }
                answer
            }
            About::Want { number, at, parts } if number == self.number => self.parts(at, parts.min(AT_ONCE)).collect(),
            // It learns by what it says next that there is another.
            About::Want { .. } => vec![self.news()],
            About::Is { .. } | About::Part { .. } => Vec::new(),
        }
    }

    fn is(&self, time: u64, seen: Option<IpAddr>) -> About<'static> {
        About::Is { number: self.number, length: self.bytes.len() as u32, time, seen: seen.map(|ip| ip.to_canonical()) }
    }

    fn parts(&self, at: u32, count: u8) -> impl Iterator<Item = About<'_>> {
        let from = self.bytes.get(at as usize..).unwrap_or_default();
        let parts = from.chunks(PART).take(count.into()).enumerate();
        parts.map(move |(place, bytes)| About::Part { number: self.number, at: at + (place * PART) as u32, bytes })
    }
}

/// What a client side knows of an offer.
#[derive(Debug)]
pub struct Learner {
    own: Vec<IpAddr>,
    seen: Option<IpAddr>,
    began: Instant,
    have: Option<(u64, Offer)>,
    getting: Option<Getting>,
    /// When it says again what it has.
    due: Instant,
    pause: Duration,
    round_trip: Option<Duration>,
}

/// An offer of which parts have come.
#[derive(Debug)]
struct Getting {
    number: u64,
    length: usize,
    parts: BTreeMap<usize, Vec<u8>>,
    /// When missing parts are asked for.
    due: Instant,
    pause: Duration,
    /// Behind the last part that was asked for.
    asked_to: usize,
}

/// What hearing something came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// Nothing new.
    Nothing,
    /// The [`Learner::front`] is another.
    Front,
    /// What came as an offer is none.
    Nonsense(crate::said::offer::Malformed),
}

impl Learner {
    /// Of the machine that has these addresses; it knows nothing yet.
    pub fn new(now: Instant, mut own: Vec<IpAddr>) -> Self {
        own.truncate(MOST_OWN);
        Self { own, seen: None, began: now, have: None, getting: None, due: now, pause: AGAIN, round_trip: None }
    }

    /// The flow is another: it says at once what it has, which still holds.
    pub fn begin(&mut self, now: Instant) {
        (self.due, self.pause, self.getting, self.round_trip) = (now, AGAIN, None, None);
    }

    /// The machine has other addresses now. Whether the [front](Self::front) is another.
    pub fn moved(&mut self, now: Instant, mut own: Vec<IpAddr>) -> bool {
        own.truncate(MOST_OWN);
        if own == self.own {
            return false;
        }
        let before = self.front();
        (self.own, self.due) = (own, now);
        self.front() != before
    }

    /// What is to be said now; asked until there is nothing more.
    pub fn poll(&mut self, now: Instant) -> Option<About<'static>> {
        if self.due <= now {
            self.due = now + self.pause;
            self.pause = (self.pause * 2).min(EVERY);
            let time = now.saturating_duration_since(self.began).as_micros() as u64 + 1;
            let round_trip =
                self.round_trip.map_or(0, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1));
            let number = self.have.as_ref().map_or(0, |(number, _)| *number);
            return Some(About::Have { number, time, round_trip, own: self.own.clone() });
        }
        let getting = self.getting.as_mut().filter(|getting| getting.due <= now)?;
        let at = getting.missing()?;
        getting.due = now + getting.pause;
        getting.pause = (getting.pause * 2).min(EVERY);
        getting.asked_to = at + usize::from(AT_ONCE);
        Some(About::Want { number: getting.number, at: (at * PART) as u32, parts: AT_ONCE })
    }

    /// When to [ask](Self::poll) again.
    pub fn poll_timeout(&self) -> Instant {
        self.getting.as_ref().map_or(self.due, |getting| getting.due.min(self.due))
    }

    /// The server side said something.
    pub fn heard(&mut self, now: Instant, about: &About<'_>) -> Learnt {
        match *about {
            About::Is { number, length, time, seen } => self.is(now, number, length as usize, time, seen),
            About::Part { number, at, bytes } => self.part(now, number, at as usize, bytes),
            About::Have { .. } | About::Want { .. } => Learnt::Nothing,
        }
    }

    fn is(&mut self, now: Instant, number: u64, length: usize, time: u64, seen: Option<IpAddr>) -> Learnt {
        if time > 0 {
            let took = now.saturating_duration_since(self.began + Duration::from_micros(time - 1));
            // What claims to be older than the flow can be is no measurement.
            if took < 10 * EVERY {
                self.round_trip = Some(smooth(self.round_trip, took));
            }
            self.pause = EVERY;
            self.due = self.due.max(now + EVERY / 2);
        }
        let before = (seen.is_some() && seen != self.seen).then(|| self.front());
        self.seen = seen.or(self.seen);
        let changed = before.is_some_and(|before| self.front() != before);
        let have = self.have.as_ref().is_some_and(|(have, _)| *have == number);
        let under_way = self.getting.as_ref().is_some_and(|getting| getting.number == number);
        if have {
            self.getting = None;
        } else if !under_way && length <= LONGEST {
            // Its first parts follow by themselves where it was asked for.
            let due = if time > 0 { now + AGAIN } else { now };
            let asked_to = if time > 0 { AT_ONCE.into() } else { 0 };
            self.getting = Some(Getting { number, length, parts: BTreeMap::new(), due, pause: AGAIN, asked_to });
        }
        if changed { Learnt::Front } else { Learnt::Nothing }
    }

    fn part(&mut self, now: Instant, number: u64, at: usize, bytes: &[u8]) -> Learnt {
        let Some(getting) = self.getting.as_mut().filter(|getting| getting.number == number) else {
            return Learnt::Nothing;
        };
        let place = at / PART;
        let expected = getting.length.saturating_sub(at).min(PART);
        if !at.is_multiple_of(PART) || bytes.len() != expected || expected == 0 {
            return Learnt::Nothing;
        }
        getting.parts.insert(place, bytes.to_vec());
        getting.pause = AGAIN;
        match getting.missing() {
            // All that was asked for is there: the next are asked for at once.
            Some(missing) if missing >= getting.asked_to => getting.due = now,
            Some(_) => getting.due = now + AGAIN,
            None => return self.complete(),
        }
        Learnt::Nothing
    }

    fn complete(&mut self) -> Learnt {
        let Some(getting) = self.getting.take() else { return Learnt::Nothing };
        let bytes = getting.parts.into_values().flatten().collect::<Vec<u8>>();
        if number(&bytes) != getting.number {
            // Asked for anew with what it says next.
            return Learnt::Nothing;
        }
        match Offer::parse(&bytes) {
            Ok(offer) => {
                let before = self.front();
                self.have = Some((getting.number, offer));
                if self.front() == before { Learnt::Nothing } else { Learnt::Front }
            }
            Err(error) => Learnt::Nonsense(error),
        }
    }

    /// What the machine does, by what was offered last; `None`: it has not been told yet.
    pub fn front(&self) -> Option<Front> {
        let (_, offer) = self.have.as_ref()?;
        let machine: Vec<IpAddr> = self.own.iter().copied().chain(self.seen).collect();
        Some(offer.front(&machine))
    }

    /// The round trip to the server side.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

impl Getting {
    /// The first part that has not come.
    fn missing(&self) -> Option<usize> {
        let all = self.length.div_ceil(PART);
        (0..all).find(|place| !self.parts.contains_key(place))
    }
}

#[cfg(test)]
mod tests;

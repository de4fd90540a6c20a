//! Which member is asked for a name, and which one after it where that does not come.
//!
//! A member that ended without a word is in the list for as long as it may be silent. So one that was told of an attempt and did
//! not come is asked after all others, until it is heard again; and the attempt goes on to the next that has the name, whenever
//! its asker asks again.

use std::time::{Duration, Instant};

use proto::rendezvous::Refusal;
use proto::{HostId, Name, WireId};

use super::attempts::{Attempt, Key};
use super::member::Member;
use super::server::{Event, Introduced, Server};
use super::session::Session;

/// A member that was told has so long to come, and two of its round trips more.
const AWAITED: Duration = Duration::from_millis(500);
/// And it was told so often: one datagram may be lost.
const TOLD: u32 = 2;
/// Of what a member says of its round trip is believed so much.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);
/// Members that one attempt has passed, as many as it remembers.
const MOST_PASSED: usize = 16;

/// Who is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a Name,
    /// One of those that have the name; 0: any.
    pub(super) peer: HostId,
    pub(super) asker: HostId,
    /// Random: of several that are as good it takes one.
    pub(super) attempt: WireId,
    /// Those that were asked and did not come.
    pub(super) passed: &'a [HostId],
    /// Who was heard before then is silent.
    pub(super) heard: Instant,
}

impl Member {
    /// It did not come when it was last told to, and was not heard since.
    fn is_missed(&self) -> bool {
        self.missed.is_some_and(|missed| missed > self.heard)
    }
}

impl Session {
    /// The member that is to be asked.
    pub(super) fn choose(&self, wanted: &Wanted<'_>) -> Result<HostId, Refusal> {
        let Wanted { peer, asker, attempt, passed, .. } = *wanted;
        let having = self.names.get(wanted.name).ok_or(Refusal::UnknownName)?;
        let named = peer != HostId(0);
        if peer == asker || having.iter().all(|id| *id == asker) {
            return Err(Refusal::Yourself);
        }
        if named && !having.contains(&peer) {
            return Err(Refusal::UnknownName);
        }
        let able = |id: &&HostId| **id != asker && (!named || **id == peer) && !passed.contains(id);
        let heard = |id: &HostId| self.members.get(id).filter(|member| member.heard >= wanted.heard);
        let heard = having.iter().filter(able).filter_map(|id| Some((*id, heard(id)?)));
        let (missed, likely): (Vec<_>, Vec<_>) = heard.partition(|(_, member)| member.is_missed());
        let best = if likely.is_empty() { missed } else { likely };
        let place = attempt.0.checked_rem(best.len() as u64).ok_or(Refusal::Silent)?;
        Ok(best[usize::try_from(place).unwrap_or(0)].0)
    }

    /// That very member, whatever names it has, if it was heard since `heard`.
    pub(super) fn present(&self, peer: HostId, asker: HostId, heard: Instant) -> Result<HostId, Refusal> {
        let there = peer != asker && self.members.get(&peer).is_some_and(|member| member.heard >= heard);
        there.then_some(peer).ok_or(Refusal::Silent)
    }
}

impl Attempt {
    /// Whoever is asked was told and had time enough.
    fn is_overdue(&self, now: Instant, round_trip: Duration) -> bool {
        self.times >= TOLD && self.since + AWAITED + 2 * round_trip.min(LONGEST_ROUND_TRIP) <= now
    }
}

impl Server {
    /// The member that an attempt is for does not come, or said that it does not: the next one is told when the asker asks again.
    /// Says whether there is one.
    fn pass_on(&mut self, now: Instant, key: Key) -> bool {
        let silent = self.rules.limits.silent();
        let pace = self.rules.limits.pace();
        let Some(attempt) = self.attempts.get(&key) else { return false };
        let Some(session) = self.sessions.get_mut(&key.0) else { return false };
        let asked = attempt.asked;
        let next = |session: &Session, passed: &[HostId]| {
            let (name, peer) = (&attempt.name, attempt.peer);
            let passed = &[passed, &attempt.declines].concat();
            let heard = now.checked_sub(silent).unwrap_or(now);
            session.choose(&Wanted { name, peer, asker: key.1, attempt: key.2, passed, heard })
        };
        let mut passed = [&attempt.passed[..], &[asked]].concat();
        let next = next(session, &passed).or_else(|_| {
            // All were asked: another one than this once more.
            passed = vec![asked];
            next(session, &passed)
        });
        let Ok(next) = next else { return false };
        if !self.attempts.is_askable(&key, next)
            || !session.members.get_mut(&next).is_some_and(|member| member.asked.take(now, pace, 1))
        {
            return false;
        }
        if passed.len() > MOST_PASSED {
            passed.remove(0);
        }
        self.attempts.ask_another(&key, next, passed, now);
        self.counts.passed_on += 1;
        let session = session.rules.name.to_string();
        if let Some(attempt) = self.attempts.get(&key) {
            let (name, round) = (attempt.name.clone(), attempt.round);
            self.tell(Event::Introduced {
                session,
                asker: key.1,
                name,
                round,
                outcome: Introduced::PassedOn(asked, next),
            });
        }
        true
    }

    /// Whoever is asked says no. Says whether another is asked.
    pub(super) fn declined(&mut self, now: Instant, key: Key) -> bool {
        let Some(attempt) = self.attempts.get_mut(&key) else { return false };
        attempt.declines.push(attempt.asked);
        attempt.declines.len() <= MOST_PASSED && self.pass_on(now, key)
    }

    /// Before an attempt is said again: whoever is asked may have to be passed.
    pub(super) fn look_for_another(&mut self, now: Instant, key: Key) {
        let Some(attempt) = self.attempts.get(&key) else { return };
        let Some(member) = self.sessions.get_mut(&key.0).and_then(|session| session.members.get_mut(&attempt.asked))
        else {
            // It left, or was forgotten.
            self.pass_on(now, key);
            return;
        };
        if attempt.is_overdue(now, Duration::from_micros(member.round_trip_us.into())) {
            member.missed = Some(now);
            self.pass_on(now, key);
        }
    }
}

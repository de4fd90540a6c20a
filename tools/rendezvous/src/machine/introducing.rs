//! Introductions: the asking side's socket, the word to the other, its socket, and to both where the other is.
//!
//! ```text
//!            INTRODUCE                 MEET
//!   nothing ──────────► told ────────────────────► met ─┬─ asked again: MEETING to whoever asks
//!                        ├─ INTRODUCE: told again, or another that has the name
//!                        └─ DECLINE ─► another; or declined: NOT INTRODUCED to whoever asks
//!   each is forgotten 30 s after it was last asked for
//! ```

use std::time::{Duration, Instant};

use proto::rendezvous::{Head, Introduce, Introduction, Mapped, Meet, Meeting, Refusal, Said, is_candidate, is_public};
use proto::{HostId, WireId};
use rand_chacha::rand_core::Rng;

use super::attempts::{Attempt, Key, Side};
use super::choosing::Wanted;
use super::counts::Reason;
use super::hygiene::clean;
use super::server::{Asker, Event, Introduced, Server};
use super::session::shown;
use super::timers::Due;

/// An attempt is forgotten so long after it was last asked for.
pub(super) const LIFE: Duration = Duration::from_secs(30);
/// From one word to the other side to the next.
const AGAIN: Duration = Duration::from_millis(50);
/// Of what members say of their round trips is believed so much, µs.
const LONGEST_ROUND_TRIP: u32 = 1_000_000;
/// The other side begins so much earlier in odd rounds, µs.
const OTHER_FIRST: u32 = 300_000;

impl Server {
    pub(super) fn introduce(&mut self, now: Instant, asker: &Asker, said: Introduce) -> Result<(), Reason> {
        let key = (asker.head.session, asker.head.member, asker.head.sender);
        if self.attempts.get(&key).is_some() {
            return self.asked_again(now, asker, key);
        }
        let (name, round) = (said.name.clone(), said.round);
        match self.begin(now, asker, key, said) {
            Ok(()) => {
                self.reply(asker, &Said::Introducing);
                self.introduction(now, key);
            }
            Err(refusal) => {
                self.counts.refuse(refusal);
                self.reply(asker, &Said::NotIntroduced(refusal));
                let session = self.session_name(key);
                let outcome = Introduced::Refused(refusal);
                self.tell(Event::Introduced { session, asker: key.1, name, round, outcome });
            }
        }
        Ok(())
    }

    fn begin(&mut self, now: Instant, asker: &Asker, key: Key, said: Introduce) -> Result<(), Refusal> {
        let limits = self.rules.limits;
        let asker_side = self.side(asker, &said.locals, (said.nat, said.mapped), said.round_trip_us);
        let session = self.sessions.get_mut(&key.0).ok_or(Refusal::UnknownAttempt)?;
        if !session.members.contains_key(&key.1) {
            return Err(Refusal::UnknownAttempt);
        }
        let heard = now.checked_sub(limits.silent()).unwrap_or(now);
        let (name, peer, passed) = (&said.name, said.peer, &[][..]);
        let asked = match said.moves {
            // Who accepted that flow may have the name no longer.
            Some(_) => session.present(peer, key.1, heard)?,
            None => session.choose(&Wanted { name, peer, asker: key.1, attempt: key.2, passed, heard })?,
        };
        let full = self.attempts.len() >= limits.attempts as usize || !self.attempts.is_free(&key, asked);
        if self.closing || full {
            return Err(Refusal::TooMany);
        }
        let pace = limits.pace();
        let asks = session.members.get_mut(&key.1).is_some_and(|member| member.asks.take(now, pace, 1));
        if !asks || !session.members.get_mut(&asked).is_some_and(|member| member.asked.take(now, pace, 1)) {
            return Err(Refusal::TooMany);
        }
        session.attempts[0] += 1;
        self.counts.attempts += 1;
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        let attempt = Attempt {
            name: said.name,
            round: said.round,
            moves: said.moves,
            asker: asker_side,
            peer: said.peer,
            asked,
            since: now,
            times: 0,
            passed: Vec::new(),
            declines: Vec::new(),
            met: None,
            declined: None,
            nonce,
            began: now,
            last: now,
            told: now,
            due: now + LIFE,
        };
        self.attempts.insert(key, attempt);
        self.timers.set(now + LIFE, Due::Attempt(key));
        Ok(())
    }

    fn side(
        &self,
        asker: &Asker,
        locals: &[std::net::SocketAddr],
        (nat, mapped): (proto::rendezvous::Nat, Mapped),
        round_trip_us: u32,
    ) -> Side {
        let own = self.own(asker.via);
        let locals = clean(locals, asker.from, &own);
        // A router maps addresses of its own: nobody's local address is said so where those are hidden.
        let fits = |at: &std::net::SocketAddr| {
            is_candidate(*at) && !own.contains(&at.ip()) && (at.ip() == asker.from.ip() || is_public(at.ip()))
        };
        let mapped = Mapped { flow: mapped.flow.filter(fits), shim: mapped.shim.filter(fits) };
        Side { id: asker.head.sender, at: asker.from, via: asker.via, locals, nat, mapped, round_trip_us }
    }

    /// Tells the other side.
    fn introduction(&mut self, now: Instant, key: Key) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        attempt.told = now;
        attempt.times += 1;
        let said = Said::Introduction(Introduction {
            asker: key.1,
            attempt: key.2,
            nonce: attempt.nonce,
            name: attempt.name.clone(),
            round: attempt.round,
            moves: attempt.moves,
        });
        let Some(session) = self.sessions.get(&key.0) else { return };
        let Some(other) = session.members.get(&attempt.asked) else { return };
        let head = Head { session: key.0, member: HostId(0), sender: WireId(0), receiver: WireId(0) };
        let bytes = head.encode(&session.rules.key, &said);
        self.send(other.via, other.at, bytes);
    }

    fn asked_again(&mut self, now: Instant, asker: &Asker, key: Key) -> Result<(), Reason> {
        let attempt = self.attempts.get_mut(&key).ok_or(Reason::Elsewhere)?;
        // What comes from elsewhere was said by somebody else before: its cookie is of that address.
        if attempt.asker.at != asker.from {
            return Err(Reason::Elsewhere);
        }
        attempt.last = now;
        if let Some(refusal) = attempt.declined {
            self.reply(asker, &Said::NotIntroduced(refusal));
        } else if attempt.met.is_some() {
            self.meeting(key, true);
        } else {
            self.look_for_another(now, key);
            let again = self.attempts.get(&key).is_some_and(|it| it.times == 0 || it.told + AGAIN <= now);
            self.reply(asker, &Said::Introducing);
            if again {
                self.introduction(now, key);
            }
        }
        Ok(())
    }

    pub(super) fn meet(&mut self, now: Instant, asker: &Asker, said: Meet) -> Result<(), Reason> {
        let side = self.side(asker, &said.locals, (said.nat, said.mapped), said.round_trip_us);
        let key = self.attempts.of_asked(asker.head.session, asker.head.member, said.attempt);
        let known = key.and_then(|key| Some((key, self.attempts.get_mut(&key)?)));
        // One socket of the other side, the first.
        let known = known.filter(|(_, attempt)| {
            let first = attempt.met.as_ref().is_none_or(|met| (met.id, met.at) == (side.id, side.at));
            attempt.nonce == said.nonce && attempt.declined.is_none() && first
        });
        let Some((key, attempt)) = known else {
            self.reply(asker, &Said::NotIntroduced(Refusal::UnknownAttempt));
            return Ok(());
        };
        attempt.last = now;
        if attempt.met.is_some() {
            self.meeting(key, false);
            return Ok(());
        }
        attempt.met = Some(side);
        let outcome = Introduced::Met(attempt.asked, now.saturating_duration_since(attempt.began));
        let (name, round) = (attempt.name.clone(), attempt.round);
        if let Some(session) = self.sessions.get_mut(&key.0) {
            session.attempts[1] += 1;
            session.members.entry(asker.head.member).and_modify(|member| member.missed = None);
        }
        self.counts.met += 1;
        self.meeting(key, true);
        self.meeting(key, false);
        let session = self.session_name(key);
        self.tell(Event::Introduced { session, asker: key.1, name, round, outcome });
        Ok(())
    }

    /// Tells one side where the other is.
    fn meeting(&mut self, key: Key, to_asker: bool) {
        let (Some(session), Some(attempt)) = (self.sessions.get(&key.0), self.attempts.get(&key)) else { return };
        let Some(met) = &attempt.met else { return };
        let (reader, other) = if to_asker { (&attempt.asker, met) } else { (met, &attempt.asker) };
        let (reader_host, other_host) = if to_asker { (key.1, attempt.asked) } else { (attempt.asked, key.1) };
        let Some(shim) = session.members.get(&other_host) else { return };
        let own = session.members.get(&reader_host).map(|member| member.locals.clone()).unwrap_or_default();
        let hide = self.rules.hide_local;
        let times = [reader, other].map(|side| side.round_trip_us.min(LONGEST_ROUND_TRIP));
        let late = if to_asker && attempt.round % 2 == 1 { OTHER_FIRST } else { 0 };
        let said = Said::Meeting(Meeting {
            peer: other_host,
            nonce: attempt.nonce,
            public: other.at,
            locals: shown(&other.locals, other.at, reader.at, &reader.locals, hide),
            shim_public: shim.at,
            shim_locals: shown(&shim.locals, shim.at, reader.at, &own, hide),
            own_public: reader.at,
            nat: other.nat,
            mapped: other.mapped,
            start_us: times[0].max(times[1]) / 2 - times[0] / 2 + late,
        });
        let head = Head { session: key.0, member: HostId(0), sender: other.id, receiver: reader.id };
        let (via, at, bytes) = (reader.via, reader.at, head.encode(&session.rules.key, &said));
        self.send(via, at, bytes);
    }

    pub(super) fn decline(
        &mut self,
        now: Instant,
        asker: &Asker,
        attempt: WireId,
        refusal: Refusal,
    ) -> Result<(), Reason> {
        let key = self.attempts.of_asked(asker.head.session, asker.head.member, attempt).ok_or(Reason::Elsewhere)?;
        let known = self.attempts.get(&key).filter(|attempt| attempt.met.is_none()).ok_or(Reason::Stale)?;
        if known.declined.is_some() || self.declined(now, key) {
            return Ok(());
        }
        let attempt = self.attempts.get_mut(&key).ok_or(Reason::Stale)?;
        attempt.declined = Some(refusal);
        let (name, round, side) = (attempt.name.clone(), attempt.round, attempt.asker.clone());
        let session = self.sessions.get(&key.0).ok_or(Reason::Elsewhere)?;
        let head = Head { session: key.0, member: HostId(0), sender: WireId(0), receiver: side.id };
        let bytes = head.encode(&session.rules.key, &Said::NotIntroduced(refusal));
        self.send(side.via, side.at, bytes);
        self.counts.refuse(refusal);
        let (session, outcome) = (self.session_name(key), Introduced::Refused(refusal));
        self.tell(Event::Introduced { session, asker: key.1, name, round, outcome });
        Ok(())
    }

    pub(super) fn look_at_attempt(&mut self, now: Instant, key: Key) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        if attempt.last + LIFE > now {
            attempt.due = attempt.last + LIFE;
            return self.timers.set(attempt.due, Due::Attempt(key));
        }
        let Some(gone) = self.attempts.remove(&key) else { return };
        if gone.met.is_none() && gone.declined.is_none() {
            self.counts.unmet += 1;
            let (session, outcome) = (self.session_name(key), Introduced::Unmet(gone.asked));
            self.tell(Event::Introduced { session, asker: key.1, name: gone.name, round: gone.round, outcome });
        }
    }

    fn session_name(&self, key: Key) -> String {
        self.sessions.get(&key.0).map(|session| session.rules.name.to_string()).unwrap_or_default()
    }
}

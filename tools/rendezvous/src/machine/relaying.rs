//! The relay's port: who may bind there, and what is said to it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::rendezvous::{Bind, Bound, DATAGRAM, Envelope, Head, Refusal, Said, is_ours};

use super::attempts::Key;
use super::counts::{Counts, Reason};
use super::hygiene::canonical;
use super::relay::Pair;
use super::rules::RelayRules;
use super::server::{Asker, Event, Server, Via};
use super::timers::Due;

/// A socket binds again within this time: NATs forget after 30 s.
const REFRESH: Duration = Duration::from_secs(15);

impl Server {
    /// A datagram to the relay's port; where it goes, as it is.
    pub fn relay(&mut self, now: Instant, via: Via, from: SocketAddr, bytes: &[u8]) -> Option<(SocketAddr, Via)> {
        let from = canonical(from);
        let bind = (is_ours(bytes) && bytes.len() == DATAGRAM).then(|| Envelope::read(bytes).ok()).flatten();
        if let Some(envelope) = bind.filter(|envelope| envelope.is_asked() && envelope.is_sealed()) {
            Counts::count(&mut self.counts.received, bytes.len());
            if let Err(reason) = self.ask_relay(now, via, from, &envelope) {
                self.counts.drop(reason);
            }
            return None;
        }
        let rules = self.rules.relay?;
        match self.relay.carry(now, (via.place, from), bytes.len(), &rules, &mut self.sessions) {
            Ok(to) => {
                Counts::count(&mut self.counts.relayed, bytes.len());
                Some(to)
            }
            Err(reason) => {
                self.counts.drop(reason);
                None
            }
        }
    }

    fn ask_relay(&mut self, now: Instant, via: Via, from: SocketAddr, envelope: &Envelope<'_>) -> Result<(), Reason> {
        let asker = Asker { from, via, head: envelope.head };
        let Some(said) = self.open(now, &asker, envelope)? else { return Ok(()) };
        let Said::Bind(bind) = said else { return Err(Reason::Unasked) };
        if let Err(refusal) = self.bind(now, &asker, &bind) {
            self.counts.refuse(refusal);
            self.reply(&asker, &Said::NotBound(refusal));
        }
        Ok(())
    }

    fn bind(&mut self, now: Instant, asker: &Asker, bind: &Bind) -> Result<(), Refusal> {
        let rules = self.rules.relay.ok_or(Refusal::NoRelay)?;
        let (member, session) = (asker.head.member, asker.head.session);
        if !self.sessions.get(&session).is_some_and(|session| session.rules.relay) {
            return Err(Refusal::NoRelay);
        }
        // The asking side knows its own id of the attempt as its own id of the flow.
        let keys = [(session, member, bind.attempt), (session, bind.peer, bind.attempt)];
        let known = |key: &Key| self.relay.get(key).is_some() || self.attempts.get(key).is_some();
        let side = keys.iter().position(known).ok_or(Refusal::UnknownAttempt)?;
        let key = keys[side];
        if self.relay.get(&key).is_none() {
            self.begin_pair(now, key, &rules)?;
        }
        let pair = self.relay.get(&key).ok_or(Refusal::UnknownAttempt)?;
        if pair.nonce != bind.nonce || [pair.ends[side].host, pair.ends[1 - side].host] != [member, bind.peer] {
            return Err(Refusal::UnknownAttempt);
        }
        if pair.left(&rules) == Some(0) {
            return Err(Refusal::Quota);
        }
        let news =
            self.relay.bind(now, (key, side), asker.head.sender, asker.from, asker.via).ok_or(Refusal::TooMany)?;
        self.bound(asker, key, side, &rules, news);
        Ok(())
    }

    fn begin_pair(&mut self, now: Instant, key: Key, rules: &RelayRules) -> Result<(), Refusal> {
        let attempt = self.attempts.get(&key).ok_or(Refusal::UnknownAttempt)?;
        let session = self.sessions.get_mut(&key.0).ok_or(Refusal::UnknownAttempt)?;
        let full = |most: u32, there: usize| most > 0 && there >= most as usize;
        if self.closing || full(rules.pairs, self.relay.len()) || full(rules.pairs_per_session, session.pairs as usize)
        {
            return Err(Refusal::TooMany);
        }
        if attempt.met.is_none() {
            return Err(Refusal::UnknownAttempt);
        }
        let pair = Pair::new(now, [key.1, attempt.asked], attempt.nonce, now + rules.idle);
        self.timers.set(pair.due, Due::Pair(key));
        self.relay.insert(key, pair);
        session.pairs += 1;
        Ok(())
    }

    /// Says so to who is bound, and to the other if that waited for it.
    fn bound(&mut self, asker: &Asker, key: Key, side: usize, rules: &RelayRules, news: bool) {
        let (Some(session), Some(pair)) = (self.sessions.get(&key.0), self.relay.get(&key)) else { return };
        let refresh_ms = u32::try_from(REFRESH.as_millis()).unwrap_or(u32::MAX);
        let left = pair.left(rules).unwrap_or(0);
        let said = Said::Bound(Bound { both: pair.whole, rate: rules.rate, left, refresh_ms });
        let (session_key, name) = (session.rules.key.clone(), session.rules.name.to_string());
        let end = &pair.ends[1 - side];
        let other = end.at.filter(|_| news).map(|(at, via)| (at, via, end.id));
        let [asks, asked] = [0, 1].map(|end: usize| pair.ends[end].host);
        self.send(asker.via, asker.from, asker.back().encode(&session_key, &said));
        if let Some((at, via, receiver)) = other {
            let head = Head { receiver, ..asker.back() };
            self.send(via, at, head.encode(&session_key, &said));
            self.counts.pairs += 1;
            self.tell(Event::Relaying { session: name, asker: asks, asked });
        }
    }

    pub(super) fn look_at_pair(&mut self, now: Instant, key: Key) {
        let Some(rules) = self.rules.relay else { return self.end_pair(key, Some(now)) };
        let Some(pair) = self.relay.get_mut(&key) else { return };
        let until = pair.until(&rules);
        if until <= now {
            return self.end_pair(key, Some(now));
        }
        pair.due = until;
        self.timers.set(until, Due::Pair(key));
    }

    pub(super) fn end_pair(&mut self, key: Key, now: Option<Instant>) {
        let Some(pair) = self.relay.remove(&key) else { return };
        self.timers.cancel(pair.due, Due::Pair(key));
        let Some(session) = self.sessions.get_mut(&key.0) else { return };
        session.pairs = session.pairs.saturating_sub(1);
        if pair.whole {
            let after = now.map_or(Duration::ZERO, |now| now.saturating_duration_since(pair.began));
            let [asker, asked] = pair.ends.map(|end| end.host);
            let session = session.rules.name.to_string();
            self.tell(Event::Relayed { session, asker, asked, bytes: pair.bytes, after });
        }
    }
}

//! Pairs of sockets that are relayed: what comes from one goes to the other, within a quota.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pace::{Bucket, Pace};
use proto::rendezvous::SessionId;
use proto::{HostId, WireId};

use super::attempts::Key;
use super::counts::Reason;
use super::rules::RelayRules;
use super::server::Via;
use super::session::Session;

/// A side that is bound elsewhere is believed once the socket of before was silent for so long: a NAT that forgot, not somebody
/// who says again what was said.
const MOVED: Duration = Duration::from_secs(2);

/// What comes of a rate at once, after silence: so little that who sends soon finds the rate, not what a bucket held.
const AT_ONCE: Duration = Duration::from_millis(150);
/// But some datagrams of Ethernet, however slow the rate is, bytes.
const SOME: u32 = 6_000;

/// A pair.
#[derive(Debug)]
pub(super) struct Pair {
    /// The asking side, and the other.
    pub(super) ends: [End; 2],
    pub(super) nonce: [u8; 16],
    pub(super) began: Instant,
    pub(super) due: Instant,
    pub(super) bytes: u64,
    /// Both sides were there.
    pub(super) whole: bool,
}

/// One side.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: HostId,
    /// Its id of the flow.
    pub(super) id: WireId,
    /// Where it is bound.
    pub(super) at: Option<(SocketAddr, Via)>,
    pub(super) heard: Instant,
    bucket: Bucket,
}

/// Where a datagram comes from: the number of the place, and the source.
type Source = (usize, SocketAddr);

/// All pairs.
#[derive(Debug, Default)]
pub(super) struct Relay {
    pairs: HashMap<Key, Pair>,
    sources: HashMap<Source, (Key, usize)>,
}

impl Pair {
    pub(super) fn new(now: Instant, hosts: [HostId; 2], nonce: [u8; 16], due: Instant) -> Self {
        let end = |host| End { host, id: WireId(0), at: None, heard: now, bucket: Bucket::default() };
        Self { ends: hosts.map(end), nonce, began: now, due, bytes: 0, whole: false }
    }

    /// Bytes that may still be relayed; none: as many as there are.
    pub(super) fn left(&self, rules: &RelayRules) -> Option<u64> {
        (rules.total > 0).then(|| rules.total.saturating_sub(self.bytes))
    }

    /// When it is over, if nobody is heard: both sides within the time that a pair may be idle, or a lonely one.
    pub(super) fn until(&self, rules: &RelayRules) -> Instant {
        let last = if self.whole { self.ends[0].heard.max(self.ends[1].heard) } else { self.began };
        last + rules.idle
    }
}

impl Relay {
    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Pair> {
        self.pairs.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Pair> {
        self.pairs.get_mut(key)
    }

    pub(super) fn insert(&mut self, key: Key, pair: Pair) {
        self.pairs.insert(key, pair);
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Pair> {
        let pair = self.pairs.remove(key)?;
        for (at, via) in pair.ends.iter().filter_map(|end| end.at) {
            self.sources.remove(&(via.place, at));
        }
        Some(pair)
    }

    pub(super) fn of_session(&self, session: SessionId) -> Vec<Key> {
        self.pairs.keys().filter(|key| key.0 == session).copied().collect()
    }

    /// One side of a pair is there; whether it is taken, and whether the pair is whole since.
    pub(super) fn bind(
        &mut self,
        now: Instant,
        (key, side): (Key, usize),
        id: WireId,
        at: SocketAddr,
        via: Via,
    ) -> Option<bool> {
        let end = &self.pairs.get(&key)?.ends[side];
        let elsewhere = end.at.is_some_and(|(before, through)| (before, through.place) != (at, via.place));
        if elsewhere && end.heard + MOVED > now {
            return None;
        }
        // A socket is one side of one pair.
        if let Some(taken) = self.sources.get(&(via.place, at)).filter(|taken| **taken != (key, side)).copied() {
            self.leaves(taken, (key, side))?;
        }
        let pair = self.pairs.get_mut(&key)?;
        let end = &mut pair.ends[side];
        if let Some((before, through)) = end.at
            && (before, through.place) != (at, via.place)
        {
            self.sources.remove(&(through.place, before));
        }
        (end.at, end.id, end.heard) = (Some((at, via)), id, now);
        self.sources.insert((via.place, at), (key, side));
        let whole = pair.ends.iter().all(|end| end.at.is_some());
        let news = whole && !pair.whole;
        pair.whole = whole;
        Some(news)
    }

    /// A member's socket goes from one pair to another with the same other member: their flow has another attempt behind it, since one
    /// of them is elsewhere. Never back to an older one, whoever says again what was said then.
    fn leaves(&mut self, (from, side): (Key, usize), (to, other): (Key, usize)) -> Option<()> {
        let hosts = |pair: &Pair, side: usize| [pair.ends[side].host, pair.ends[1 - side].host];
        let Some(before) = self.pairs.get(&from) else { return Some(()) };
        let after = self.pairs.get(&to)?;
        if from.0 != to.0 || hosts(before, side) != hosts(after, other) || before.began >= after.began {
            return None;
        }
        self.pairs.get_mut(&from)?.ends[side].at = None;
        Some(())
    }

    /// Where a datagram goes.
    pub(super) fn carry(
        &mut self,
        now: Instant,
        source: Source,
        bytes: usize,
        rules: &RelayRules,
        sessions: &mut HashMap<SessionId, Session>,
    ) -> Result<(SocketAddr, Via), Reason> {
        let (key, side) = *self.sources.get(&source).ok_or(Reason::Unbound)?;
        let pair = self.pairs.get_mut(&key).ok_or(Reason::Unbound)?;
        pair.ends[side].heard = now;
        let to = pair.ends[1 - side].at.ok_or(Reason::Alone)?;
        if pair.left(rules).is_some_and(|left| left < bytes as u64) {
            return Err(Reason::RelayQuota);
        }
        // An empty datagram costs, too.
        let units = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
        let mut bucket = sessions.get_mut(&key.0).map(|session| &mut session.relayed);
        let fits = |bucket: &mut Bucket, rate| rate == 0 || bucket.take(now, pace(rate, units), units);
        let mine = fits(&mut pair.ends[side].bucket, rules.rate);
        if !mine || !bucket.as_mut().is_none_or(|bucket| fits(bucket, rules.session_rate)) {
            return Err(Reason::RelayRate);
        }
        pair.bytes += bytes as u64;
        Ok(to)
    }
}

/// So many bytes a second. A datagram of any length passes while less than what may come at once was too early before it.
fn pace(rate: u64, bytes: u32) -> Pace {
    let interval = Duration::from_nanos(1_000_000_000 / rate.min(1_000_000_000));
    Pace { interval, burst: AT_ONCE.max(interval * SOME) + interval * bytes }
}

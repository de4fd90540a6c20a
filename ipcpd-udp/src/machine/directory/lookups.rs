//! Look-ups under way and their answers, kept as long as their TTL says.
//!
//! Many asks for one name are one look-up. An answer whose TTL is over still serves where the name servers cannot be
//! asked, as long as its hosts' records are not void themselves (RFC 8767): a claim says by its `exp` how long it is
//! true, its TTL only how often to ask whether it was taken back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Name;

use super::answer::{Host, Records};
use super::trouble::Trouble;

/// Names whose answers are kept.
const MOST_KEPT: usize = 4_096;
/// Look-ups under way; more wait for one of them to end.
const MOST_ASKED: usize = 128;
/// An outage is believed so long before the next look-up of the name.
const OUTAGE: Duration = Duration::from_secs(2);
/// An administrator's address says nothing of how long it is true: it outlives its TTL by so much in an outage.
const STALE: Duration = Duration::from_secs(3600);
/// Negative answers are kept no longer, whatever their TTL says: a name may be registered any time.
const MOST_NEGATIVE: Duration = Duration::from_secs(60);
const MOST_POSITIVE: Duration = Duration::from_secs(24 * 3600);
/// A look-up that `io` never reports on is over after this.
const LOST: Duration = Duration::from_secs(20);

/// What came of a look-up.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// The records; empty ones where the name does not exist.
    pub records: Result<Records, Trouble>,
    /// Where the name does not exist: its domain does not either (NXDOMAIN), or has no record of the kinds wanted.
    pub absent: bool,
    /// Which server answered, or which were asked.
    pub server: String,
    /// How long the answer may be kept.
    pub ttl: Duration,
    /// When it came, seconds since 1970.
    pub wall: u64,
}

/// What is known of a name now.
#[derive(Clone, Debug)]
pub(in crate::machine) enum Known {
    Hosts(Arc<[Host]>),
    /// It does not exist; what the server said.
    Nothing(Arc<str>),
    /// Name servers could not be asked; the whole sentence.
    Outage(Arc<str>),
}

#[derive(Debug)]
struct Entry {
    known: Known,
    /// Asked again after this.
    until: Instant,
    /// Of no use at all after this.
    end: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Lookups {
    kept: BTreeMap<Name, Entry>,
    ends: BTreeSet<(Instant, Name)>,
    asked: BTreeMap<Name, Instant>,
    waiting: VecDeque<Name>,
    queued: BTreeSet<Name>,
}

impl Lookups {
    /// What is known, if it is fresh.
    pub(super) fn fresh(&self, now: Instant, name: &Name) -> Option<Known> {
        self.kept.get(name).filter(|entry| now < entry.until).map(|entry| entry.known.clone())
    }

    /// A look-up is wanted; `true`: it is to begin now.
    pub(super) fn want(&mut self, now: Instant, name: &Name) -> bool {
        if self.asked.contains_key(name) || self.queued.contains(name) {
            return false;
        }
        if self.asked.len() >= MOST_ASKED {
            self.waiting.push_back(name.clone());
            self.queued.insert(name.clone());
            return false;
        }
        self.asked.insert(name.clone(), now + LOST);
        true
    }

    /// Nobody wants it any more, if it has not begun.
    pub(super) fn forget(&mut self, name: &Name) {
        if self.queued.remove(name) {
            self.waiting.retain(|waiting| waiting != name);
        }
    }

    /// A look-up has ended; gives the next that is to begin.
    pub(super) fn ended(&mut self, now: Instant, name: &Name) -> Option<Name> {
        self.asked.remove(name)?;
        let next = self.waiting.pop_front()?;
        self.queued.remove(&next);
        self.asked.insert(next.clone(), now + LOST);
        Some(next)
    }

    /// Look-ups whose end was never told.
    pub(super) fn lost(&self, now: Instant) -> Vec<Name> {
        self.asked.iter().filter(|(_, lost)| **lost <= now).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.asked.values().min().copied()
    }

    /// Keeps an answer; gives what is known from now on, which in an outage may be what was known before, unless the
    /// server `denied` it.
    pub(super) fn keep(&mut self, now: Instant, name: &Name, known: Known, ttl: Duration, denied: bool) -> Known {
        let (known, until, end) = match known {
            Known::Outage(text) => {
                let old = self.kept.get(name).filter(|entry| now < entry.end && !denied);
                match old.map(|entry| (&entry.known, entry.end)) {
                    Some((Known::Hosts(hosts), end)) if hosts.iter().any(|host| host.is_usable(now)) => {
                        (Known::Hosts(hosts.clone()), now + OUTAGE, end)
                    }
                    _ => (Known::Outage(text), now + OUTAGE, now + OUTAGE),
                }
            }
            Known::Nothing(text) => {
                let until = now + ttl.min(MOST_NEGATIVE);
                (Known::Nothing(text), until, until)
            }
            Known::Hosts(hosts) => {
                let until = now + ttl.min(MOST_POSITIVE);
                let usable = hosts.iter().filter(|host| host.is_usable(now));
                let end = usable.map(|host| host.until.unwrap_or(until + STALE)).max().unwrap_or(until);
                (Known::Hosts(hosts), until, end.max(until).min(now + MOST_POSITIVE))
            }
        };
        self.remove(name);
        while self.kept.len() >= MOST_KEPT
            && let Some((_, first)) = self.ends.first().cloned()
        {
            self.remove(&first);
        }
        self.ends.insert((end, name.clone()));
        self.kept.insert(name.clone(), Entry { known: known.clone(), until, end });
        known
    }

    fn remove(&mut self, name: &Name) {
        if let Some(entry) = self.kept.remove(name) {
            self.ends.remove(&(entry.end, name.clone()));
        }
    }
}

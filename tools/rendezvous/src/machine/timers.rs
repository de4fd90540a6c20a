//! What is to be done when: one moment for each thing that lives.

use std::collections::BTreeSet;
use std::time::Instant;

use proto::HostId;
use proto::rendezvous::SessionId;

use super::attempts::Key;

/// What a moment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A member may have been silent for too long.
    Member(SessionId, HostId),
    /// Nobody may have asked for an attempt for too long.
    Attempt(Key),
    /// A relayed pair may have been silent for too long.
    Pair(Key),
    /// Members are to hear that there is news.
    News(SessionId),
}

/// The moments, the first first. Whoever is forgotten takes back its own, so there are never more than there are things.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Due)>);

impl Timers {
    pub(super) fn set(&mut self, at: Instant, due: Due) {
        self.0.insert((at, due));
    }

    pub(super) fn cancel(&mut self, at: Instant, due: Due) {
        self.0.remove(&(at, due));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the first whose moment has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        (self.next()? <= now).then(|| self.0.pop_first().map(|(_, due)| due)).flatten()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

//! One member of a session.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use pace::Bucket;
use proto::rendezvous::{Join, NameChange, NamesAt};
use proto::{BootId, Name};

use super::server::Via;

/// Boots of before that are remembered.
const BOOTS: usize = 4;

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) marks: Marks,
    /// Where its listen port is seen.
    pub(super) at: SocketAddr,
    /// Where it speaks to, so where it is spoken to from.
    pub(super) via: Via,
    /// What it thinks its addresses are; clean.
    pub(super) locals: Vec<SocketAddr>,
    pub(super) names_at: NamesAt,
    pub(super) names: BTreeSet<Name>,
    pub(super) since: Instant,
    pub(super) heard: Instant,
    /// When it is looked whether it is still heard.
    pub(super) due: Instant,
    /// What it was told of the list.
    pub(super) told: u64,
    pub(super) round_trip_us: u32,
    /// Attempts that it asked for, and those that it was asked for.
    pub(super) asks: Bucket,
    pub(super) asked: Bucket,
    /// When it was told of an attempt and had not come in time.
    pub(super) missed: Option<Instant>,
}

/// What tells what a member says now from what it said before.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    pub(super) boot: BootId,
    pub(super) count: u64,
    /// The newest last.
    before: Vec<BootId>,
}

/// How something that was said stands to what was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It is newer.
    Fresh,
    /// Of a start of the shim that was not heard of.
    Booted,
    /// It was said before.
    Stale,
    /// Of a start that was replaced by another.
    Replaced,
}

impl Marks {
    /// Of the first that is heard.
    pub(super) fn new(boot: BootId, count: u64) -> Self {
        Self { boot, count, before: Vec::new() }
    }

    pub(super) fn age(&self, boot: BootId, count: u64) -> Age {
        match () {
            () if self.before.contains(&boot) => Age::Replaced,
            () if boot != self.boot => Age::Booted,
            () if count > self.count => Age::Fresh,
            () => Age::Stale,
        }
    }

    pub(super) fn take(&mut self, boot: BootId, count: u64) {
        if boot != self.boot {
            if self.before.len() == BOOTS {
                self.before.remove(0);
            }
            self.before.push(self.boot);
        }
        (self.boot, self.count) = (boot, count);
    }
}

impl Member {
    /// Takes what it says of its names; those that came, and those that went.
    pub(super) fn take_names(&mut self, join: &Join, most: usize) -> (Vec<Name>, Vec<Name>) {
        let begins = join.names_at.generation != self.names_at.generation;
        if join.names.is_empty() && !begins {
            return (Vec::new(), Vec::new());
        }
        let before = self.names.clone();
        if join.names_at.count == 0 && begins {
            self.names_at = join.names_at;
            self.names.clear();
        }
        if join.names_at == self.names_at {
            for change in &join.names {
                self.names_at.count = self.names_at.count.saturating_add(1);
                match change {
                    NameChange::Add(name) if self.names.len() < most => drop(self.names.insert(name.clone())),
                    NameChange::Add(_) => {}
                    NameChange::Remove(name) => drop(self.names.remove(name)),
                }
            }
        }
        let came = self.names.difference(&before).cloned().collect();
        let went = before.difference(&self.names).cloned().collect();
        (came, went)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_is_known() {
        let mut marks = Marks::new(BootId(1), 5);
        let age = |marks: &Marks, boot, count| marks.age(BootId(boot), count);
        assert_eq!([age(&marks, 1, 5), age(&marks, 1, 6), age(&marks, 2, 1)], [Age::Stale, Age::Fresh, Age::Booted]);
        marks.take(BootId(2), 1);
        assert_eq!([age(&marks, 1, 9), age(&marks, 2, 1), age(&marks, 2, 2)], [Age::Replaced, Age::Stale, Age::Fresh]);
        for boot in 3..100 {
            marks.take(BootId(boot), 1);
        }
        assert_eq!([age(&marks, 98, 7), age(&marks, 95, 7)], [Age::Replaced; 2]);
        assert_eq!(marks.before.len(), BOOTS);
    }
}

//! What has changed in a session: each change has a version, and whoever knows all up to one hears what came after it.
//!
//! Of each thing only the last change is kept, so the list is as long as there are members and names, and a bounded number of
//! those that have gone. Who knows less than is kept begins anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use proto::rendezvous::{Change, Changes, Seen};
use proto::{HostId, Name};

/// Things gone that are kept at least.
const GONE: usize = 64;

/// What changed. A member that moves keeps its birth where it was: names come after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Item {
    Came(HostId),
    Moved(HostId),
    Left(HostId),
    Name(HostId, Name),
    NameGone(HostId, Name),
}

/// The changes of one session.
#[derive(Debug)]
pub(super) struct List {
    epoch: u64,
    version: u64,
    /// What came up to here may be forgotten.
    floor: u64,
    order: BTreeMap<u64, Item>,
    versions: HashMap<Item, u64>,
    gone: BTreeSet<u64>,
}

/// What somebody is told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) seen: Seen,
    pub(super) reset: bool,
    pub(super) changes: Vec<Change>,
}

impl List {
    /// An empty one. `epoch`: random, not 0.
    pub(super) fn new(epoch: u64) -> Self {
        let (order, versions, gone) = Default::default();
        Self { epoch: epoch.max(1), version: 0, floor: 0, order, versions, gone }
    }

    /// All that there is.
    pub(super) fn latest(&self) -> Seen {
        Seen { epoch: self.epoch, version: self.version }
    }

    pub(super) fn came(&mut self, member: HostId) {
        self.put(Item::Came(member));
    }

    pub(super) fn moved(&mut self, member: HostId) {
        self.put(Item::Moved(member));
    }

    /// With all its names.
    pub(super) fn left<'a>(&mut self, member: HostId, names: impl Iterator<Item = &'a Name>) {
        self.take(&Item::Came(member));
        self.take(&Item::Moved(member));
        for name in names {
            self.take(&Item::Name(member, name.clone()));
        }
        self.bury(Item::Left(member));
    }

    pub(super) fn named(&mut self, member: HostId, name: &Name) {
        self.take(&Item::NameGone(member, name.clone()));
        self.put(Item::Name(member, name.clone()));
    }

    pub(super) fn unnamed(&mut self, member: HostId, name: &Name) {
        self.take(&Item::Name(member, name.clone()));
        self.bury(Item::NameGone(member, name.clone()));
    }

    fn put(&mut self, item: Item) {
        self.take(&item);
        self.version += 1;
        self.order.insert(self.version, item.clone());
        self.versions.insert(item, self.version);
    }

    fn take(&mut self, item: &Item) {
        if let Some(version) = self.versions.remove(item) {
            self.order.remove(&version);
            self.gone.remove(&version);
        }
    }

    fn bury(&mut self, item: Item) {
        self.put(item);
        self.gone.insert(self.version);
        let there = self.order.len() - self.gone.len();
        // The older half at once: whoever knows less begins anew, which is not to happen to all again and again.
        if self.gone.len() > 2 * GONE.max(there) {
            for _ in 0..self.gone.len() / 2 {
                let Some(version) = self.gone.pop_first() else { break };
                if let Some(item) = self.order.remove(&version) {
                    self.versions.remove(&item);
                }
                self.floor = version;
            }
        }
    }

    /// What somebody that has `seen` so much is to hear, as much as fits. `change` says an item as it is now; none: not to
    /// this reader.
    pub(super) fn read(&self, seen: Seen, change: impl Fn(&Item) -> Option<Change>) -> Told {
        let known = seen.epoch == self.epoch && (self.floor..=self.version).contains(&seen.version);
        let from = if known { seen.version } else { 0 };
        let (mut room, mut version) = (Changes::default(), from);
        for (at, item) in self.order.range((Bound::Excluded(from), Bound::Unbounded)) {
            // Who begins anew need not hear who has gone before.
            let gone = !known && self.gone.contains(at);
            if let Some(change) = change(item).filter(|_| !gone)
                && !room.take(change)
            {
                return Told { seen: Seen { epoch: self.epoch, version }, reset: !known, changes: room.taken };
            }
            version = *at;
        }
        Told { seen: self.latest(), reset: !known, changes: room.taken }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests;

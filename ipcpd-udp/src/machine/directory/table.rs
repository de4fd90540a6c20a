//! What is known without asking anybody: names registered here, the static table.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use proto::Name;

/// Names registered here at most, and rows of the static table at most.
pub(in crate::machine) const MOST: usize = 65_536;

/// An irmd that is back has so long to say the next of its names again.
const SAID_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Table {
    here: BTreeMap<Name, Registered>,
    hosts: BTreeMap<Name, SocketAddr>,
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Registered {
    /// A program may be started for it.
    starts: bool,
    /// When irmd said so last.
    said: Instant,
}

/// irmd came back: names that it does not say again it has lost, with the programs that served them.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// Said before this.
    before: Instant,
    until: Instant,
}

/// Where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// On this host, as registered or by the static table: a flow to it is a local flow.
    Here,
    /// On the host whose shim listens there.
    At(SocketAddr),
    /// Nobody says.
    Unknown,
}

/// A bound of the directory was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::machine) struct Full;

impl Table {
    pub(super) fn register(&mut self, now: Instant, name: Name) -> Result<(), Full> {
        if self.here.len() >= MOST && !self.here.contains_key(&name) {
            return Err(Full);
        }
        // As long as it goes on, the rest may follow.
        if let Some(doubt) = &mut self.doubt {
            doubt.until = now + SAID_WITHIN;
        }
        self.here.entry(name).or_insert(Registered { starts: false, said: now }).said = now;
        Ok(())
    }

    pub(super) fn starts(&mut self, name: &Name, starts: bool) {
        if let Some(known) = self.here.get_mut(name) {
            known.starts = starts;
        }
    }

    /// irmd is back, and has been told so no earlier than `before`.
    pub(super) fn doubt(&mut self, now: Instant, before: Instant) {
        if !self.here.is_empty() {
            self.doubt = Some(Doubt { before, until: now + SAID_WITHIN });
        }
    }

    /// When [`Self::lost`] has something.
    pub(super) fn next(&self) -> Option<Instant> {
        self.doubt.map(|doubt| doubt.until)
    }

    /// Names that irmd did not say again.
    pub(super) fn lost(&mut self, now: Instant) -> Vec<Name> {
        let Some(doubt) = self.doubt.take_if(|doubt| doubt.until <= now) else { return Vec::new() };
        self.here.iter().filter(|(_, known)| known.said < doubt.before).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn unregister(&mut self, name: &Name) -> bool {
        self.here.remove(name).is_some()
    }

    /// Names registered here.
    pub(super) fn names(&self, range: (Bound<&Name>, Bound<&Name>)) -> impl Iterator<Item = &Name> {
        self.here.range::<Name, _>(range).map(|(name, _)| name)
    }

    /// The static table's row.
    pub(super) fn row(&self, name: &Name) -> Option<SocketAddr> {
        self.hosts.get(name).copied()
    }

    pub(super) fn answers_for(&self, name: &Name) -> bool {
        self.here.contains_key(name)
    }

    /// Whether a flow to the name may start a program, so that its caller must be proven.
    pub(super) fn needs_cookie(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| self.here.get(name).is_some_and(|known| known.starts))
    }

    /// A second row for the name replaces the first.
    pub(super) fn add_host(&mut self, name: Name, shim: SocketAddr) -> Result<(), Full> {
        if self.hosts.len() >= MOST && !self.hosts.contains_key(&name) {
            return Err(Full);
        }
        self.hosts.insert(name, shim);
        Ok(())
    }

    pub(super) fn remove_host(&mut self, name: &Name) -> bool {
        self.hosts.remove(name).is_some()
    }

    /// Names with rows for hosts other than this one that begin so, in order.
    pub(super) fn hosts_below<'a>(&'a self, prefix: &'a Name, own: SocketAddr) -> impl Iterator<Item = &'a Name> {
        // The prefix itself is not below itself.
        let range = self.hosts.range::<Name, _>((Bound::Excluded(prefix), Bound::Unbounded));
        let below = range.take_while(|(name, _)| super::begins(name, prefix));
        below.filter(move |(_, at)| **at != own).map(|(name, _)| name)
    }

    pub(super) fn find(&self, name: &Name, own: SocketAddr) -> Row {
        match self.hosts.get(name) {
            // The row that the whole site shares also stands on the host it points to. Asking ourselves would
            // only come back to irmd, which has looked for the name on this host already.
            Some(&shim) if shim == own => Row::Here,
            Some(&shim) => Row::At(shim),
            None if self.here.contains_key(name) => Row::Here,
            None => Row::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::origin;

    #[test]
    fn a_name_is_where_the_table_says() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|text| Name::new(text).unwrap());
        let own: SocketAddr = "10.0.0.1:3359".parse().unwrap();
        let other: SocketAddr = "10.0.0.2:3359".parse().unwrap();
        let mut table = Table::default();
        let now = origin();
        table.register(now, a.clone()).unwrap();
        table.add_host(b.clone(), other).unwrap();
        table.add_host(c.clone(), own).unwrap();
        let found = [&a, &b, &c, &d].map(|name| table.find(name, own));
        assert_eq!(found, [Row::Here, Row::At(other), Row::Here, Row::Unknown]);
        // Registered here and elsewhere: irmd asks the layer only for what it does not serve itself.
        table.register(now, b.clone()).unwrap();
        assert_eq!(table.find(&b, own), Row::At(other));
        assert!(table.remove_host(&b) && !table.remove_host(&b));
        assert_eq!(table.find(&b, own), Row::Here);
        assert!(table.unregister(&b) && !table.unregister(&b));
        assert_eq!(table.find(&b, own), Row::Unknown);
    }

    #[test]
    fn names_that_begin_alike_are_found_but_for_this_host_s() {
        let own: SocketAddr = "10.0.0.1:3359".parse().unwrap();
        let other: SocketAddr = "10.0.0.2:3359".parse().unwrap();
        let mut table = Table::default();
        let rows = [
            ("chat", other),
            ("chat.", other),
            ("chat.b", other),
            ("chat.a", other),
            ("chat.c", own),
            ("chata", other),
        ];
        for (name, at) in rows {
            table.add_host(Name::new(name).unwrap(), at).unwrap();
        }
        let below = |prefix| {
            let prefix = Name::new(prefix).unwrap();
            table.hosts_below(&prefix, own).map(|name| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(below("chat."), ["chat.a", "chat.b"]);
        assert_eq!(below("d"), [""; 0]);
    }

    #[test]
    fn what_irmd_does_not_say_again_is_lost() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Name::new(text).unwrap());
        let start = origin();
        let at = |s| start + Duration::from_secs(s);
        let mut table = Table::default();
        table.doubt(at(0), at(0));
        assert_eq!(table.next(), None, "nothing to doubt");
        for name in [&a, &b, &c] {
            table.register(at(1), name.clone()).unwrap();
        }
        table.starts(&a, true);
        // It says the first between the question and the answer, the second late, the third never.
        table.register(at(6), a.clone()).unwrap();
        table.doubt(at(7), at(5));
        assert!(table.lost(at(16)).is_empty());
        table.register(at(16), b.clone()).unwrap();
        assert!(table.lost(at(25)).is_empty(), "it goes on saying names");
        assert_eq!(table.next(), Some(at(26)));
        assert_eq!(table.lost(at(26)), [c]);
        assert!(table.next().is_none() && table.lost(at(99)).is_empty());
        assert!(table.needs_cookie(b"a"), "said again, a name is what it was");
    }
}

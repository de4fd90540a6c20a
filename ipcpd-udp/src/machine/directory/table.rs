//! What is known without asking anybody: names registered here, the static table.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;

use proto::Name;

/// Names registered here at most, and rows of the static table at most.
pub(in crate::machine) const MOST: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Table {
    /// And whether a program may be started for it.
    here: BTreeMap<Name, bool>,
    hosts: BTreeMap<Name, SocketAddr>,
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
    pub(super) fn register(&mut self, name: Name) -> Result<(), Full> {
        if self.here.len() >= MOST && !self.here.contains_key(&name) {
            return Err(Full);
        }
        self.here.entry(name).or_default();
        Ok(())
    }

    pub(super) fn starts(&mut self, name: &Name, starts: bool) {
        if let Some(known) = self.here.get_mut(name) {
            *known = starts;
        }
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
        std::str::from_utf8(name).is_ok_and(|name| self.here.get(name) == Some(&true))
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

    #[test]
    fn a_name_is_where_the_table_says() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|text| Name::new(text).unwrap());
        let own: SocketAddr = "10.0.0.1:3359".parse().unwrap();
        let other: SocketAddr = "10.0.0.2:3359".parse().unwrap();
        let mut table = Table::default();
        table.register(a.clone()).unwrap();
        table.add_host(b.clone(), other).unwrap();
        table.add_host(c.clone(), own).unwrap();
        let found = [&a, &b, &c, &d].map(|name| table.find(name, own));
        assert_eq!(found, [Row::Here, Row::At(other), Row::Here, Row::Unknown]);
        // Registered here and elsewhere: irmd asks the layer only for what it does not serve itself.
        table.register(b.clone()).unwrap();
        assert_eq!(table.find(&b, own), Row::At(other));
        assert!(table.remove_host(&b) && !table.remove_host(&b));
        assert_eq!(table.find(&b, own), Row::Here);
        assert!(table.unregister(&b) && !table.unregister(&b));
        assert_eq!(table.find(&b, own), Row::Unknown);
    }
}

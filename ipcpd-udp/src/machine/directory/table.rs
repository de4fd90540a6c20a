//! The directory: which names this host answers for, and which host answers for a name.
//!
//! Asked in order: names registered here, the static table; DNS and a rendezvous join behind it. Their answers
//! come later than the question, so asking is a step of its own: `Shim::flow_alloc` looks up, `Shim::ask` goes on
//! with the address, and only the first knows where it came from.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proto::Name;

/// Names registered here at most, and rows of the static table at most.
pub(super) const MOST: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Directory {
    /// And whether a program may be started for it.
    here: BTreeMap<Name, bool>,
    hosts: BTreeMap<Name, SocketAddr>,
}

/// Where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this host, as registered or by the static table: a flow to it is a local flow.
    Here,
    /// On the host whose shim listens there.
    At(SocketAddr),
    /// Nobody says.
    Unknown,
}

/// A bound of the directory was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Directory {
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

    pub(super) fn find(&self, name: &Name, own: SocketAddr) -> Place {
        match self.hosts.get(name) {
            // The row that the whole site shares also stands on the host it points to. Asking ourselves would
            // only come back to irmd, which has looked for the name on this host already.
            Some(&shim) if shim == own => Place::Here,
            Some(&shim) => Place::At(shim),
            None if self.here.contains_key(name) => Place::Here,
            None => Place::Unknown,
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
        let mut directory = Directory::default();
        directory.register(a.clone()).unwrap();
        directory.add_host(b.clone(), other).unwrap();
        directory.add_host(c.clone(), own).unwrap();
        let found = [&a, &b, &c, &d].map(|name| directory.find(name, own));
        assert_eq!(found, [Place::Here, Place::At(other), Place::Here, Place::Unknown]);
        // Registered here and elsewhere: irmd asks the layer only for what it does not serve itself.
        directory.register(b.clone()).unwrap();
        assert_eq!(directory.find(&b, own), Place::At(other));
        assert!(directory.remove_host(&b) && !directory.remove_host(&b));
        assert_eq!(directory.find(&b, own), Place::Here);
        assert!(directory.unregister(&b) && !directory.unregister(&b));
        assert_eq!(directory.find(&b, own), Place::Unknown);
    }
}

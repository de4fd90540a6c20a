//! What the names of the rules are looked up to, as far as that is known.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::said::rule::{Host, Net};

/// Addresses of one name that are heeded.
pub const MOST_ADDRESSES: usize = 16;

/// Names and their addresses. A name that stops resolving keeps its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(HashMap<String, Vec<IpAddr>>);

impl Names {
    /// A name's addresses of now; none are no news. Whether anything changed.
    pub fn learn(&mut self, name: &str, addresses: &[IpAddr]) -> bool {
        let mut fresh: Vec<IpAddr> = Vec::new();
        for address in addresses.iter().map(IpAddr::to_canonical) {
            if !fresh.contains(&address) && fresh.len() < MOST_ADDRESSES {
                fresh.push(address);
            }
        }
        // The order in which a server hands them out says which server is next, and nothing of who the others are.
        match self.0.get(name) {
            _ if fresh.is_empty() => false,
            Some(known) if *known == fresh => false,
            _ => {
                self.0.insert(name.to_owned(), fresh);
                true
            }
        }
    }

    /// Whether a name's addresses are known.
    pub fn is_known(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names that nobody has any more are forgotten.
    pub fn keep(&mut self, names: &[&str]) {
        self.0.retain(|name, _| names.contains(&name.as_str()));
    }

    /// A host's addresses; none: they are not known.
    pub fn addresses<'a>(&'a self, host: &'a Host) -> &'a [IpAddr] {
        match host {
            Host::Address(address) => std::slice::from_ref(address),
            Host::Named(name) => self.0.get(name).map_or(&[], Vec::as_slice),
        }
    }

    /// Whether an address is among a net's.
    pub fn within(&self, net: &Net, ip: IpAddr) -> bool {
        self.addresses(&net.host).iter().any(|host| alike(*host, net.mask, ip))
    }
}

/// Whether two addresses are the same in all bits of a mask. A mask of no bits is of everybody, of either family.
fn alike(host: IpAddr, mask: Option<IpAddr>, ip: IpAddr) -> bool {
    match (host.to_canonical(), ip.to_canonical(), mask) {
        (_, _, Some(mask)) if mask.is_unspecified() => true,
        (host, ip, None) => host == ip,
        (IpAddr::V4(a), IpAddr::V4(b), Some(IpAddr::V4(mask))) => (a.to_bits() ^ b.to_bits()) & mask.to_bits() == 0,
        (IpAddr::V6(a), IpAddr::V6(b), Some(IpAddr::V6(mask))) => (a.to_bits() ^ b.to_bits()) & mask.to_bits() == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn masks_may_have_holes_and_names_many_addresses() {
        let mut names = Names::default();
        let lan = Host::Named("lan".to_owned());
        let net = |host: &Host, mask: Option<&str>| Net { host: host.clone(), mask: mask.map(ip) };
        assert!(!names.within(&net(&lan, None), ip("10.0.0.1")));
        assert!(names.learn("lan", &[ip("10.0.0.1"), ip("::ffff:10.0.0.1"), ip("fd00::1")]));
        assert!(!names.learn("lan", &[ip("10.0.0.1"), ip("fd00::1")]), "nothing new");
        assert!(!names.learn("lan", &[]), "the last are kept");
        let ten = Host::Address(ip("10.1.2.3"));
        let rows = [
            (&lan, None, "10.0.0.1", true),
            (&lan, None, "fd00::1", true),
            (&lan, None, "10.0.0.2", false),
            (&lan, Some("255.255.255.0"), "10.0.0.2", true),
            (&lan, Some("255.255.255.0"), "fd00::1", false),
            (&ten, None, "10.1.2.3", true),
            (&ten, None, "::ffff:10.1.2.3", true),
            (&ten, Some("255.0.255.0"), "10.9.2.9", true),
            (&ten, Some("255.0.255.0"), "10.1.3.3", false),
            (&ten, Some("0.0.0.0"), "192.0.2.1", true),
            (&ten, Some("0.0.0.0"), "fd00::1", true),
            (&ten, Some("ffff::"), "10.1.2.3", false),
        ];
        for (host, mask, from, want) in rows {
            assert_eq!(names.within(&net(host, mask), ip(from)), want, "{host} {mask:?} {from}");
        }
        names.keep(&["other"]);
        assert!(names.addresses(&lan).is_empty());
    }
}

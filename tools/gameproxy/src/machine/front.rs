//! What the client side is told: who may send, and to which ports.

use std::net::{IpAddr, SocketAddr};

use crate::said::rule::{Access, Host, Net, Rules, Verdict};

/// Access list and ports of a client side; no names are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// Who may send. The first that matches decides; where none does, nobody may.
    pub access: Vec<Access>,
    /// Where players send to; an unspecified address is all of the machine's.
    pub ports: Vec<SocketAddr>,
}

impl Front {
    /// That of rules all of whose redirects are this machine's; names are left out.
    pub fn of(rules: &Rules) -> Self {
        let mut ports: Vec<SocketAddr> = rules.redirects.iter().filter_map(|rule| rule.from.address()).collect();
        ports.sort_unstable();
        ports.dedup();
        Self { access: rules.access.clone(), ports }
    }

    /// Whether a player may send.
    pub fn lets(&self, player: SocketAddr) -> bool {
        let port = |entry: &Access| (entry.ports.0..=entry.ports.1).contains(&player.port());
        let found = self.access.iter().find(|entry| port(entry) && within(&entry.from, player.ip()));
        found.is_some_and(|entry| entry.verdict == Verdict::Allow)
    }
}

/// Whether an address is the same as the net's in all bits of its mask.
fn within(net: &Net, ip: IpAddr) -> bool {
    let Host::Address(host) = net.host else { return false };
    match (host, ip, net.mask) {
        (IpAddr::V4(a), IpAddr::V4(b), None) => a == b,
        (IpAddr::V6(a), IpAddr::V6(b), None) => a == b,
        (IpAddr::V4(a), IpAddr::V4(b), Some(IpAddr::V4(mask))) => (a.to_bits() ^ b.to_bits()) & mask.to_bits() == 0,
        (IpAddr::V6(a), IpAddr::V6(b), Some(IpAddr::V6(mask))) => (a.to_bits() ^ b.to_bits()) & mask.to_bits() == 0,
        _ => false,
    }
}

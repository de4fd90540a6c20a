//! What matches what: access lists and redirects, the first that does decides.

use std::net::{IpAddr, SocketAddr};

use super::names::Names;
use crate::said::rule::{Access, Redirect, Rules, Verdict};

/// The place of the entry that decides on a player; none: no entry matches, which rejects.
pub fn deciding(access: &[Access], names: &Names, player: SocketAddr) -> Option<usize> {
    let port = |entry: &Access| (entry.ports.0..=entry.ports.1).contains(&player.port());
    access.iter().position(|entry| port(entry) && names.within(&entry.from, player.ip()))
}

/// Whether an access list lets a player in.
pub fn lets(access: &[Access], names: &Names, player: SocketAddr) -> bool {
    deciding(access, names, player).is_some_and(|place| access[place].verdict == Verdict::Allow)
}

/// Why a redirect does not take a player's datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Not {
    /// Its port is another.
    Port,
    /// The address that players send to is another.
    Address,
    /// That address is a name which is not known yet.
    AddressUnknown,
    /// It is for another client machine (`on`).
    Machine,
    /// Its own access list does not let the player in; which entry says so, none: none matches.
    Denied(Option<usize>),
}

/// Whether a redirect is that client machine's which has these addresses, its own and the one that it is seen at.
pub fn is_for(redirect: &Redirect, names: &Names, machine: &[IpAddr]) -> bool {
    let mine = |ip: &IpAddr| ip.is_unspecified() || among(machine, *ip);
    names.addresses(redirect.on.as_ref().unwrap_or(&redirect.from.host)).iter().any(mine)
}

/// Whether an address is one of these, whichever way it is written.
pub fn among(addresses: &[IpAddr], ip: IpAddr) -> bool {
    addresses.iter().any(|own| own.to_canonical() == ip.to_canonical())
}

/// Whether a redirect takes datagrams that a player sends to an address of this machine. `machine`: its addresses, none: they
/// are not known, or do not matter since there is no other machine.
pub fn takes(
    redirect: &Redirect,
    names: &Names,
    machine: Option<&[IpAddr]>,
    orig: SocketAddr,
    player: SocketAddr,
) -> Result<(), Not> {
    if redirect.from.port != orig.port() {
        return Err(Not::Port);
    }
    let addresses = names.addresses(&redirect.from.host);
    if addresses.is_empty() {
        return Err(Not::AddressUnknown);
    }
    let here = |ip: &IpAddr| ip.is_unspecified() || ip.to_canonical() == orig.ip().to_canonical();
    // With `on` players may send to an address that the machine does not have, such as the one of a router before it.
    let elsewhere = || redirect.on.is_some() && machine.is_some_and(|own| !addresses.iter().any(|ip| among(own, *ip)));
    if !addresses.iter().any(here) && !elsewhere() {
        return Err(Not::Address);
    }
    let unknown = redirect.on.as_ref().is_some_and(|on| names.addresses(on).is_empty());
    let other = redirect.on.is_some() && machine.is_some_and(|machine| !is_for(redirect, names, machine));
    if unknown || other {
        return Err(Not::Machine);
    }
    match deciding(&redirect.access, names, player) {
        _ if redirect.access.is_empty() => Ok(()),
        Some(place) if redirect.access[place].verdict == Verdict::Allow => Ok(()),
        place => Err(Not::Denied(place)),
    }
}

/// The first redirect that takes a player's datagram.
pub fn first(
    rules: &Rules,
    names: &Names,
    machine: Option<&[IpAddr]>,
    orig: SocketAddr,
    player: SocketAddr,
) -> Option<usize> {
    rules.redirects.iter().position(|redirect| takes(redirect, names, machine, orig, player).is_ok())
}

#[cfg(test)]
mod tests;

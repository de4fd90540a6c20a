//! The machine's own addresses.

use std::net::IpAddr;

use crate::said::offer::MOST_OWN;

/// Those of all interfaces that are up, the loopback's last: a machine may have more than are told.
pub(super) fn addresses() -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> = Vec::new();
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return own };
    for address in all.filter_map(|interface| interface.address) {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())));
        own.extend(ip.filter(|ip| !own.contains(ip)));
    }
    own.sort_by_key(IpAddr::is_loopback);
    own.truncate(MOST_OWN);
    own
}

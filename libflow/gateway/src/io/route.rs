//! This host's next hop.
#![expect(clippy::disallowed_methods, reason = "io asks the kernel for routes")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use procfs::net::RouteEntry;

use crate::Refusal;

/// route(8): the route is usable.
const UP: u16 = 1;

/// The router that this host sends to for `towards`; none where it is in this host's network, or nowhere.
pub(super) fn router(towards: Ipv4Addr) -> Option<Ipv4Addr> {
    next_hop(&procfs::net::route().ok()?, towards)
}

fn next_hop(routes: &[RouteEntry], towards: Ipv4Addr) -> Option<Ipv4Addr> {
    let leads = |route: &&RouteEntry| {
        let mask = u32::from(route.mask);
        route.flags & UP != 0 && u32::from(towards) & mask == u32::from(route.destination) & mask
    };
    let best = routes.iter().filter(leads).max_by_key(|route| (route.mask, std::cmp::Reverse(route.metrics)))?;
    (!best.gateway.is_unspecified()).then_some(best.gateway)
}

/// A router maps the port of the address that asks, and a host may have several. Nothing is sent.
pub(super) fn speaks_from(router: Ipv4Addr, own: Ipv4Addr) -> Result<(), Refusal> {
    let from = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((router, crab_nat::GATEWAY_PORT))?;
        socket.local_addr()
    };
    match from() {
        Ok(SocketAddr::V4(from)) if *from.ip() == own => Ok(()),
        Ok(SocketAddr::V4(from)) => Err(Refusal::Elsewhere(*from.ip())),
        Ok(SocketAddr::V6(_)) => Err(Refusal::Silent),
        Err(error) => Err(Refusal::Said(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str, mask: &str, gateway: &str, metrics: u32) -> RouteEntry {
        let [destination, mask, gateway] = [to, mask, gateway].map(|text| text.parse().unwrap());
        let (refcnt, in_use, mtu, window, irtt) = (0, 0, 0, 0, 0);
        let iface = "eth0".to_owned();
        RouteEntry { iface, destination, gateway, flags: UP, refcnt, in_use, metrics, mask, mtu, window, irtt }
    }

    #[test]
    fn the_longest_route_leads_and_of_those_the_nearest() {
        let routes = [
            route("0.0.0.0", "0.0.0.0", "192.168.1.254", 600),
            route("0.0.0.0", "0.0.0.0", "192.168.1.1", 100),
            route("10.0.0.0", "255.0.0.0", "192.168.1.2", 900),
            route("192.168.1.0", "255.255.255.0", "0.0.0.0", 0),
        ];
        let hop = |to: &str| next_hop(&routes, to.parse().unwrap()).map(|hop| hop.to_string());
        assert_eq!(hop("203.0.113.1").as_deref(), Some("192.168.1.1"));
        assert_eq!(hop("10.9.9.9").as_deref(), Some("192.168.1.2"));
        assert_eq!(hop("192.168.1.7"), None, "in this host's network");
        assert_eq!(next_hop(&[], Ipv4Addr::new(203, 0, 113, 1)), None);
        let down = RouteEntry { flags: 0, ..route("0.0.0.0", "0.0.0.0", "192.168.1.1", 0) };
        assert_eq!(next_hop(&[down], Ipv4Addr::new(203, 0, 113, 1)), None);
    }
}

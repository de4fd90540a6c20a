//! Which of the addresses that a member says of itself are handed on: members will send hellos there.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proto::rendezvous::is_candidate;

/// Global addresses of IPv6 that are handed on without a proof that the member has them.
const UNPROVEN: usize = 2;

/// Those of `said` that may be tried: no loopback, multicast, reserved or link-local ones, none of the server's own, none twice,
/// and not the one that the member is `seen` at, which is said anyway. A global address of IPv4 must be the one it is seen at:
/// from another the server would have seen it, and a member could name a third party. One of IPv6 need not, because who is seen
/// through IPv4 has those, too.
pub(super) fn clean(said: &[SocketAddr], seen: SocketAddr, own: &[IpAddr]) -> Vec<SocketAddr> {
    let (mut clean, mut unproven): (Vec<SocketAddr>, usize) = (Vec::with_capacity(said.len()), 0);
    for address in said {
        let address = canonical(*address);
        let ip = address.ip();
        let known = address == seen || clean.contains(&address) || own.contains(&ip);
        if known || !is_candidate(address) || is_link_local(ip) {
            continue;
        }
        if ip != seen.ip() && !is_private(ip) {
            unproven += 1;
            if ip.is_ipv4() || unproven > UNPROVEN {
                continue;
            }
        }
        clean.push(address);
    }
    clean
}

/// An address of IPv4 as such, however a socket of IPv6 tells it; nothing beside address and port.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// RFC 1918, RFC 6598 (behind a carrier's NAT), RFC 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(v6) => is_unique_local(v6),
    }
}

fn is_unique_local(v6: Ipv6Addr) -> bool {
    v6.segments()[0] & 0xfe00 == 0xfc00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_tried_is_handed_on() {
        let seen = "203.0.113.7:40000".parse().unwrap();
        let own = ["198.51.100.1".parse().unwrap(), "10.9.9.9".parse().unwrap()];
        for (said, want) in [
            ("192.168.1.5:3359", true),
            ("10.0.0.1:1", true),
            ("100.64.0.9:5", true),
            ("100.128.0.9:5", false),
            ("203.0.113.7:40000", false),
            ("203.0.113.7:3359", true),
            ("203.0.113.8:3359", false),
            ("8.8.8.8:53", false),
            ("127.0.0.1:5", false),
            ("0.1.2.3:5", false),
            ("169.254.1.1:5", false),
            ("255.255.255.255:5", false),
            ("240.0.0.1:5", false),
            ("198.51.100.1:5", false),
            ("10.9.9.9:5", false),
            ("192.168.1.5:0", false),
            ("[::1]:5", false),
            ("[fe80::1]:5", false),
            ("[fd00::1]:5", true),
            ("[2001:db8::1]:5", true),
            ("[::ffff:8.8.8.8]:53", false),
        ] {
            let clean = clean(&[said.parse().unwrap()], seen, &own);
            assert_eq!(!clean.is_empty(), want, "{said}");
        }
    }

    #[test]
    fn none_comes_twice_and_few_are_without_proof() {
        let seen = "203.0.113.7:40000".parse().unwrap();
        let said = ["[::ffff:10.0.0.1]:5", "10.0.0.1:5", "[2001:db8::1]:5", "[2001:db8::2]:5", "[2001:db8::3]:5"];
        let said: Vec<SocketAddr> = said.map(|text| text.parse().unwrap()).into();
        let want = ["10.0.0.1:5", "[2001:db8::1]:5", "[2001:db8::2]:5"].map(|text| text.parse().unwrap());
        assert_eq!(clean(&said, seen, &[]), want);
    }
}

//! Addresses as fields carry them: family (4 or 6), address (4 or 16), port (2).

use std::net::{IpAddr, SocketAddr};

use super::MAX_LOCALS;

pub(super) fn put(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(address.port().to_be_bytes());
}

/// The first address, and what follows it. None that no host can have.
pub(super) fn take(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (family, rest) = bytes.split_first()?;
    let (ip, rest): (IpAddr, _) = match family {
        4 => rest.split_first_chunk::<4>().map(|(octets, rest)| ((*octets).into(), rest))?,
        6 => rest.split_first_chunk::<16>().map(|(octets, rest)| ((*octets).into(), rest))?,
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk()?;
    let address = SocketAddr::new(ip, u16::from_be_bytes(*port));
    (address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()).then_some((address, rest))
}

pub(super) fn one(bytes: &[u8]) -> Option<SocketAddr> {
    take(bytes).filter(|(_, rest)| rest.is_empty()).map(|(address, _)| address)
}

pub(super) fn list(addresses: &[SocketAddr]) -> Vec<u8> {
    assert!(addresses.len() <= MAX_LOCALS, "a list of addresses is bounded by its maker");
    let mut out = Vec::with_capacity(addresses.len() * 19);
    addresses.iter().for_each(|address| put(&mut out, *address));
    out
}

pub(super) fn read_list(mut bytes: &[u8]) -> Option<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    while !bytes.is_empty() {
        let (address, rest) = take(bytes)?;
        bytes = rest;
        if addresses.len() == MAX_LOCALS {
            return None;
        }
        addresses.push(address);
    }
    Some(addresses)
}

/// Whether an address of this kind is one host's in the whole Internet: none of a private network, of a carrier's own (RFC 6598) or
/// of those that are kept for something else.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let kept = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_documentation();
            let shared = a == 100 && (64..128).contains(&b);
            let special = a == 0 || a >= 224 || (a, b, c) == (192, 0, 0) || a == 198 && (18..20).contains(&b);
            !(kept || shared || special)
        }
        // 2000::/3 without what is for documents.
        IpAddr::V6(v6) => v6.segments()[0] >> 13 == 1 && v6.segments()[..2] != [0x2001, 0xdb8],
    }
}

/// Whether a hello may be sent to an address that somebody else named: one host's, not of this host itself, not reserved.
pub fn is_candidate(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let reserved = match ip {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        // No zone says which link is meant.
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && !reserved
}

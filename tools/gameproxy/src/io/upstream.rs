//! The socket that speaks to a game server for one player.

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use siphasher::sip::SipHasher24;

use crate::machine::door::{Choice, Player};

/// A socket connected to the player's server: the kernel takes nothing from anybody else.
pub(super) fn open(choice: &Choice, player: &Player) -> Result<OwnedFd, Errno> {
    let socket = datagrams::socket(choice.server)?;
    if choice.carriage.own_source && choice.server.ip().is_loopback() && choice.server.is_ipv4() {
        rustix::net::bind(&socket, &SocketAddr::from((own_source(player.client.ip()), 0)))?;
    }
    rustix::net::connect(&socket, &choice.server)?;
    // What strangers sent to the port before it was connected; the server has not been asked anything yet.
    while rustix::net::recv(&socket, &mut [0; 1], RecvFlags::DONTWAIT | RecvFlags::TRUNC).is_ok() {}
    Ok(socket)
}

/// The address under which a server on the loopback sees a player: the same for the same player's address whenever it comes, so
/// that the server can ban it; of 127.64.0.0/10, of which nothing else is likely to be.
pub(super) fn own_source(client: IpAddr) -> Ipv4Addr {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    match client.to_canonical() {
        IpAddr::V4(v4) => hasher.write(&v4.octets()),
        IpAddr::V6(v6) => hasher.write(&v6.octets()),
    }
    // Neither the first nor the last of a network of 256.
    let hash = hasher.finish();
    let last = (hash >> 32) % 254 + 1;
    Ipv4Addr::from_bits(0x7f40_0000 | (hash as u32 & 0x003f_ff00) | last as u32)
}

/// A header of the PROXY protocol, version 2: a proxied datagram (0x21, 0x12 or 0x22), source and destination.
pub(super) fn header(player: &Player) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match (player.client.ip(), player.orig.ip()) {
        (IpAddr::V4(client), IpAddr::V4(orig)) => {
            header.extend_from_slice(&[0x12, 0, 12]);
            header.extend_from_slice(&client.octets());
            header.extend_from_slice(&orig.octets());
        }
        (client, orig) => {
            header.extend_from_slice(&[0x22, 0, 36]);
            for ip in [client, orig] {
                let v6 = match ip {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                header.extend_from_slice(&v6.octets());
            }
        }
    }
    header.extend_from_slice(&player.client.port().to_be_bytes());
    header.extend_from_slice(&player.orig.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_these_bytes() {
        let player = Player { orig: "10.0.0.1:258".parse().unwrap(), client: "10.0.0.2:3".parse().unwrap() };
        let want = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\x0a\0\0\x02\x0a\0\0\x01\0\x03\x01\x02";
        assert_eq!(header(&player), want);
        let player = Player { orig: "[::1]:258".parse().unwrap(), client: "[::2]:3".parse().unwrap() };
        assert_eq!(header(&player).len(), 16 + 36);
    }

    #[test]
    fn a_player_keeps_its_address_and_few_share_one() {
        let of = |n: u32| own_source(Ipv4Addr::from_bits(0x0a00_0000 + n).into());
        assert_eq!(of(1), own_source("::ffff:10.0.0.1".parse().unwrap()));
        let all: std::collections::HashSet<_> = (0..1000).map(of).collect();
        assert!(all.len() > 990, "{}", all.len());
        assert!(all.iter().all(|ip| ip.octets()[0] == 127 && (64..128).contains(&ip.octets()[1])));
    }
}

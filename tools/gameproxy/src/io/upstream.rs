//! The socket that speaks to a game server for one player.

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use siphasher::sip::SipHasher24;

use crate::machine::door::{Choice, Player};

/// Ports that players' sockets have, if they are free: by default the kernel's own choice is from these, too.
const PORTS: std::ops::Range<u64> = 32_768..61_000;

/// A socket connected to the player's server: the kernel takes nothing from anybody else. The same player's has the same port
/// again, if that is free: a server that knows its players by address and port then knows it again, after this program or the
/// way to it was away.
pub(super) fn open(choice: &Choice, player: &Player) -> Result<OwnedFd, Errno> {
    let socket = datagrams::socket(choice.server)?;
    let own = choice.carriage.own_source && choice.server.ip().is_loopback() && choice.server.is_ipv4();
    let source = match (own, choice.server) {
        (true, _) => own_source(player.client.ip()).into(),
        (false, SocketAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (false, SocketAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    match rustix::net::bind(&socket, &SocketAddr::new(source, port(choice, player))) {
        Err(Errno::ADDRINUSE) if own => rustix::net::bind(&socket, &SocketAddr::new(source, 0))?,
        // The kernel chooses at connect.
        Err(Errno::ADDRINUSE) => {}
        done => done?,
    }
    rustix::net::connect(&socket, &choice.server)?;
    // What strangers sent to the port before it was connected; the server has not been asked anything yet.
    while rustix::net::recv(&socket, &mut [0; 1], RecvFlags::DONTWAIT | RecvFlags::TRUNC).is_ok() {}
    Ok(socket)
}

/// The port of a player's socket, whichever process asks.
fn port(choice: &Choice, player: &Player) -> u16 {
    let mut hasher = SipHasher24::new_with_keys(0, 1);
    for address in [player.orig, player.client, choice.server] {
        put(&mut hasher, address.ip());
        hasher.write_u16(address.port());
    }
    (PORTS.start + hasher.finish() % (PORTS.end - PORTS.start)) as u16
}

fn put(hasher: &mut SipHasher24, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => hasher.write(&v4.octets()),
        IpAddr::V6(v6) => hasher.write(&v6.octets()),
    }
}

/// The address under which a server on the loopback sees a player: the same for the same player's address whenever it comes, so
/// that the server can ban it; of 127.64.0.0/10, of which nothing else is likely to be.
pub(super) fn own_source(client: IpAddr) -> Ipv4Addr {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    put(&mut hasher, client);
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

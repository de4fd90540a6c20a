//! Cookies: a caller proves that it receives at the address it sends from, and the server keeps nothing meanwhile.
//!
//! A cookie is one byte that names its key, and 16 bytes of SipHash-2-4 under that key over (address, cp, client's
//! id, name): good for one request, for 30 to 60 s. Keys are drawn at random, live for two periods and never leave.

use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::WireId;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// Bytes of a cookie.
pub(super) const LENGTH: usize = 17;
/// A key bakes for this long, and is honoured for as long again.
pub(super) const PERIOD: Duration = Duration::from_secs(30);

/// The keys of two periods.
#[derive(Debug)]
pub(super) struct Jar {
    /// By the lowest bit of their generation.
    keys: [[u8; 16]; 2],
    generation: u8,
    until: Option<Instant>,
}

impl Jar {
    pub(super) fn new(random: &mut impl FnMut() -> [u8; 16]) -> Self {
        Self { keys: [random(), random()], generation: 0, until: None }
    }

    /// To be called before the others: keys whose time is over go.
    pub(super) fn turn(&mut self, now: Instant, random: &mut impl FnMut() -> [u8; 16]) {
        let Some(until) = self.until else { return self.until = Some(now + PERIOD) };
        if now < until {
            return;
        }
        // After a long rest the key before is too old as well.
        for _ in 0..if now < until + PERIOD { 1 } else { 2 } {
            self.generation = self.generation.wrapping_add(1);
            self.keys[usize::from(self.generation & 1)] = random();
        }
        self.until = Some(now + PERIOD);
    }

    /// The cookie for a request.
    pub(super) fn bake(&self, from: SocketAddr, client: WireId, name: &[u8]) -> [u8; LENGTH] {
        self.seal(self.generation, from, client, name)
    }

    /// Whether the cookie was baked for this very request, not long ago.
    pub(super) fn is_ours(&self, cookie: &[u8], from: SocketAddr, client: WireId, name: &[u8]) -> bool {
        let Ok(cookie) = <[u8; LENGTH]>::try_from(cookie) else { return false };
        if cookie[0] != self.generation && cookie[0] != self.generation.wrapping_sub(1) {
            return false;
        }
        // Looks at all bytes, wherever the first difference is.
        let want = self.seal(cookie[0], from, client, name);
        cookie.iter().zip(want).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }

    fn seal(&self, generation: u8, from: SocketAddr, client: WireId, name: &[u8]) -> [u8; LENGTH] {
        let mut mac = SipHasher24::new_with_key(&self.keys[usize::from(generation & 1)]);
        let ip = match from.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        // Only the name has a length of its own, and it comes last.
        for part in [&ip[..], &from.port().to_be_bytes(), &client.0.to_be_bytes(), &[generation], name] {
            mac.write(part);
        }
        let mut cookie = [generation; LENGTH];
        cookie[1..].copy_from_slice(&mac.finish128().as_bytes());
        cookie
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{addr, ms, origin};
    use super::*;

    fn random() -> impl FnMut() -> [u8; 16] {
        let mut next = 0;
        move || {
            next += 1;
            [next; 16]
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_own_request_only() {
        let jar = Jar::new(&mut random());
        let (from, client) = (addr("10.0.0.1:40000"), WireId(5));
        let cookie = jar.bake(from, client, b"echo");
        assert!(jar.is_ours(&cookie, from, client, b"echo"));
        for (from, client, name) in [
            (addr("10.0.0.2:40000"), client, &b"echo"[..]),
            (addr("10.0.0.1:40001"), client, b"echo"),
            (addr("[::1]:40000"), client, b"echo"),
            (from, WireId(6), b"echo"),
            (from, client, b"ech"),
            (from, client, b""),
        ] {
            assert!(!jar.is_ours(&cookie, from, client, name), "{from} {client:?} {name:?}");
        }
        for at in 0..LENGTH * 8 {
            let mut forged = cookie;
            forged[at / 8] ^= 1 << (at % 8);
            assert!(!jar.is_ours(&forged, from, client, b"echo"), "bit {at}");
        }
        for length in [0, 16, 18, 32] {
            assert!(!jar.is_ours(&vec![cookie[0]; length], from, client, b"echo"), "{length} bytes");
        }
        let other = Jar::new(&mut || [9; 16]);
        assert!(!other.is_ours(&cookie, from, client, b"echo"), "another server's");
    }

    #[test]
    fn a_cookie_is_good_for_one_to_two_periods() {
        let (from, client) = (addr("10.0.0.1:40000"), WireId(5));
        for (baked, shown, good) in [(0, 0, true), (0, 30_000, true), (29_999, 59_000, true), (0, 60_000, false)] {
            let (start, mut random) = (origin(), random());
            let mut jar = Jar::new(&mut random);
            jar.turn(start, &mut random);
            jar.turn(start + ms(baked), &mut random);
            let cookie = jar.bake(from, client, b"echo");
            // Looked at often or never between the two.
            for at in [shown / 2, shown] {
                jar.turn(start + ms(at.max(baked)), &mut random);
            }
            assert_eq!(jar.is_ours(&cookie, from, client, b"echo"), good, "{baked} {shown}");
        }
    }

    #[test]
    fn a_long_rest_voids_every_cookie() {
        let (start, mut random) = (origin(), random());
        let mut jar = Jar::new(&mut random);
        jar.turn(start, &mut random);
        let cookie = jar.bake(addr("10.0.0.1:1"), WireId(5), b"echo");
        jar.turn(start + 5 * PERIOD, &mut random);
        assert!(!jar.is_ours(&cookie, addr("10.0.0.1:1"), WireId(5), b"echo"));
    }
}

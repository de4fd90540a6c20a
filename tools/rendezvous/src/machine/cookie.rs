//! Cookies: who asks proves that it receives at the address it sends from, and the server keeps nothing meanwhile.
//!
//! A cookie is one byte that names its key, and 16 bytes of SipHash-2-4 under that key over the address (not the port: one
//! serves a member's listen port and the sockets of its flows). Keys are drawn at random, live for two periods and never leave.

use std::hash::Hasher as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// Bytes of a cookie.
const LENGTH: usize = 17;
/// A key bakes for this long, and is honoured for as long again.
pub(super) const PERIOD: Duration = Duration::from_secs(120);

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
        // Another generation at each start: a cookie of before is not taken for this one's.
        let keys = [random(), random()];
        Self { generation: random()[0], keys, until: None }
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

    /// The cookie of an address.
    pub(super) fn bake(&self, from: IpAddr) -> Vec<u8> {
        self.seal(self.generation, from).to_vec()
    }

    /// Whether the cookie was baked for this address, not long ago.
    pub(super) fn is_ours(&self, cookie: &[u8], from: IpAddr) -> bool {
        let Ok(cookie) = <[u8; LENGTH]>::try_from(cookie) else { return false };
        if cookie[0] != self.generation && cookie[0] != self.generation.wrapping_sub(1) {
            return false;
        }
        // Looks at all bytes, wherever the first difference is.
        let want = self.seal(cookie[0], from);
        cookie.iter().zip(want).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }

    fn seal(&self, generation: u8, from: IpAddr) -> [u8; LENGTH] {
        let mut mac = SipHasher24::new_with_key(&self.keys[usize::from(generation & 1)]);
        let ip = match from {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        mac.write(&ip);
        mac.write(&[generation]);
        let mut cookie = [generation; LENGTH];
        cookie[1..].copy_from_slice(&mac.finish128().as_bytes());
        cookie
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]

    use super::*;

    fn random() -> impl FnMut() -> [u8; 16] {
        let mut next = 0;
        move || {
            next += 1;
            [next; 16]
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_cookie_is_good_for_its_own_address_only() {
        let jar = Jar::new(&mut random());
        let cookie = jar.bake(ip("10.0.0.1"));
        assert!(jar.is_ours(&cookie, ip("10.0.0.1")));
        for other in ["10.0.0.2", "::1", "2001:db8::1"] {
            assert!(!jar.is_ours(&cookie, ip(other)), "{other}");
        }
        for at in 0..LENGTH * 8 {
            let mut forged = cookie.clone();
            forged[at / 8] ^= 1 << (at % 8);
            assert!(!jar.is_ours(&forged, ip("10.0.0.1")), "bit {at}");
        }
        for length in [0, 16, 18, 32] {
            assert!(!jar.is_ours(&vec![cookie[0]; length], ip("10.0.0.1")), "{length} bytes");
        }
        let other = Jar::new(&mut || [cookie[0]; 16]);
        assert!(!other.is_ours(&cookie, ip("10.0.0.1")), "another server's");
    }

    #[test]
    fn a_cookie_is_good_for_one_to_two_periods() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        for (baked, shown, good) in [(0, 0, true), (0, 120, true), (119, 239, true), (0, 240, false), (1, 2_000, false)]
        {
            let mut random = random();
            let mut jar = Jar::new(&mut random);
            jar.turn(start, &mut random);
            let cookie = jar.bake(ip("10.0.0.1"));
            // Looked at often or never between the two.
            for at in [baked, (baked + shown) / 2, shown] {
                jar.turn(start + seconds(at), &mut random);
            }
            assert_eq!(jar.is_ours(&cookie, ip("10.0.0.1")), good, "{baked} {shown}");
        }
    }
}

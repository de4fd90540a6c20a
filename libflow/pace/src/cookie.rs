//! Cookies: who asks proves that it receives at the address it sends from, and the server keeps nothing meanwhile.
//!
//! A cookie is one byte that names its key, and 16 bytes of SipHash-2-4 under that key over what it is for. Keys are drawn
//! at random, live for two periods and never leave.

use std::hash::Hasher as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// Bytes of a cookie.
pub const LENGTH: usize = 17;

/// The keys of two periods.
#[derive(Debug)]
pub struct Jar {
    period: Duration,
    /// By the lowest bit of their generation.
    keys: [[u8; 16]; 2],
    generation: u8,
    until: Option<Instant>,
}

impl Jar {
    /// A key bakes for a period, and is honoured for as long again. The first one's `generation` is drawn where cookies of
    /// a server that was started again are not even to look like this one's.
    pub fn new(period: Duration, generation: u8, random: &mut impl FnMut() -> [u8; 16]) -> Self {
        Self { period, keys: [random(), random()], generation, until: None }
    }

    /// To be called before the others: keys whose time is over go.
    pub fn turn(&mut self, now: Instant, random: &mut impl FnMut() -> [u8; 16]) {
        let Some(until) = self.until else { return self.until = Some(now + self.period) };
        if now < until {
            return;
        }
        // After a long rest the key before is too old as well.
        for _ in 0..if now < until + self.period { 1 } else { 2 } {
            self.generation = self.generation.wrapping_add(1);
            self.keys[usize::from(self.generation & 1)] = random();
        }
        self.until = Some(now + self.period);
    }

    /// The cookie for these parts, of which the last alone has a length of its own.
    pub fn bake(&self, parts: &[&[u8]]) -> [u8; LENGTH] {
        self.seal(self.generation, parts)
    }

    /// Whether the cookie was baked for these very parts, not long ago.
    pub fn is_ours(&self, cookie: &[u8], parts: &[&[u8]]) -> bool {
        let Ok(cookie) = <[u8; LENGTH]>::try_from(cookie) else { return false };
        if cookie[0] != self.generation && cookie[0] != self.generation.wrapping_sub(1) {
            return false;
        }
        // Looks at all bytes, wherever the first difference is.
        let want = self.seal(cookie[0], parts);
        cookie.iter().zip(want).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }

    fn seal(&self, generation: u8, parts: &[&[u8]]) -> [u8; LENGTH] {
        let mut mac = SipHasher24::new_with_key(&self.keys[usize::from(generation & 1)]);
        mac.write(&[generation]);
        for part in parts {
            mac.write(part);
        }
        let mut cookie = [generation; LENGTH];
        cookie[1..].copy_from_slice(&mac.finish128().as_bytes());
        cookie
    }
}

/// An address as a part: its bytes, those of IPv4 as IPv6 maps them.
pub fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]

    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);

    fn random() -> impl FnMut() -> [u8; 16] {
        let mut next = 0;
        move || {
            next += 1;
            [next; 16]
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_own_parts_only() {
        let jar = Jar::new(PERIOD, 7, &mut random());
        let cookie = jar.bake(&[b"10.0.0.1", b"echo"]);
        assert!(jar.is_ours(&cookie, &[b"10.0.0.1", b"echo"]));
        for parts in [[&b"10.0.0.2"[..], b"echo"], [b"10.0.0.1", b"ech"], [b"10.0.0.1", b""]] {
            assert!(!jar.is_ours(&cookie, &parts), "{parts:?}");
        }
        for at in 0..LENGTH * 8 {
            let mut forged = cookie;
            forged[at / 8] ^= 1 << (at % 8);
            assert!(!jar.is_ours(&forged, &[b"10.0.0.1", b"echo"]), "bit {at}");
        }
        for length in [0, 16, 18, 32] {
            assert!(!jar.is_ours(&vec![cookie[0]; length], &[b"10.0.0.1", b"echo"]), "{length} bytes");
        }
        let other = Jar::new(PERIOD, 7, &mut || [9; 16]);
        assert!(!other.is_ours(&cookie, &[b"10.0.0.1", b"echo"]), "another server's");
    }

    #[test]
    fn a_cookie_is_good_for_one_to_two_periods() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        for (baked, shown, good) in [
            (0, 0, true),
            (0, 30_000, true),
            (29_999, 59_000, true),
            (0, 60_000, false),
            // After a long rest.
            (1, 150_000, false),
        ] {
            let mut random = random();
            let mut jar = Jar::new(PERIOD, 255, &mut random);
            jar.turn(start, &mut random);
            jar.turn(start + ms(baked), &mut random);
            let cookie = jar.bake(&[b"echo"]);
            // Looked at often or never between the two.
            for at in [shown / 2, shown] {
                jar.turn(start + ms(at.max(baked)), &mut random);
            }
            assert_eq!(jar.is_ours(&cookie, &[b"echo"]), good, "{baked} {shown}");
        }
        let mut random = random();
        let mut rested = Jar::new(PERIOD, 0, &mut random);
        rested.turn(start, &mut random);
        let cookie = rested.bake(&[b"echo"]);
        rested.turn(start + 5 * PERIOD, &mut random);
        assert!(!rested.is_ours(&cookie, &[b"echo"]));
    }

    #[test]
    fn addresses_of_both_families_differ() {
        let of = |text: &str| octets(text.parse().unwrap());
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("0.0.0.1"), of("::1"));
    }
}

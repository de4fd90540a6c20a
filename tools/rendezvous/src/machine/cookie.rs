//! The cookie of an address, not of its port: one serves a member's listen port and the sockets of its flows; good for 2 to 4
//! minutes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pace::cookie;

/// A key bakes for this long, and is honoured for as long again.
pub(super) const PERIOD: Duration = Duration::from_secs(120);

/// Keeps the keys.
#[derive(Debug)]
pub(super) struct Jar(cookie::Jar);

impl Jar {
    pub(super) fn new(random: &mut impl FnMut() -> [u8; 16]) -> Self {
        // Another generation at each start: a cookie of before is not taken for this one's.
        let [generation, ..] = random();
        Self(cookie::Jar::new(PERIOD, generation, random))
    }

    /// To be called before the others: keys whose time is over go.
    pub(super) fn turn(&mut self, now: Instant, random: &mut impl FnMut() -> [u8; 16]) {
        self.0.turn(now, random);
    }

    /// The cookie of an address.
    pub(super) fn bake(&self, from: IpAddr) -> Vec<u8> {
        self.0.bake(&[&cookie::octets(from)]).to_vec()
    }

    /// Whether the cookie was baked for this address, not long ago.
    pub(super) fn is_ours(&self, cookie: &[u8], from: IpAddr) -> bool {
        self.0.is_ours(cookie, &[&cookie::octets(from)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_own_address_only() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let jar = Jar::new(&mut || [9; 16]);
        let cookie = jar.bake(ip("10.0.0.1"));
        assert!(jar.is_ours(&cookie, ip("10.0.0.1")));
        for other in ["10.0.0.2", "::1", "2001:db8::1"] {
            assert!(!jar.is_ours(&cookie, ip(other)), "{other}");
        }
    }
}

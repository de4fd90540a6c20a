//! The cookie of a request: for its address and port, its client's id and its name; good for 30 to 60 s.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pace::cookie::{self, LENGTH};
use proto::WireId;

/// A key bakes for this long, and is honoured for as long again.
pub(super) const PERIOD: Duration = Duration::from_secs(30);

/// Keeps the keys.
#[derive(Debug)]
pub(super) struct Jar(cookie::Jar);

impl Jar {
    pub(super) fn new(random: &mut impl FnMut() -> [u8; 16]) -> Self {
        Self(cookie::Jar::new(PERIOD, 0, random))
    }

    /// To be called before the others: keys whose time is over go.
    pub(super) fn turn(&mut self, now: Instant, random: &mut impl FnMut() -> [u8; 16]) {
        self.0.turn(now, random);
    }

    /// The cookie for a request.
    pub(super) fn bake(&self, from: SocketAddr, client: WireId, name: &[u8]) -> [u8; LENGTH] {
        with_parts(from, client, name, |parts| self.0.bake(parts))
    }

    /// Whether the cookie was baked for this very request, not long ago.
    pub(super) fn is_ours(&self, cookie: &[u8], from: SocketAddr, client: WireId, name: &[u8]) -> bool {
        with_parts(from, client, name, |parts| self.0.is_ours(cookie, parts))
    }
}

fn with_parts<T>(from: SocketAddr, client: WireId, name: &[u8], then: impl FnOnce(&[&[u8]]) -> T) -> T {
    // Only the name has a length of its own, and it comes last.
    then(&[&cookie::octets(from.ip()), &from.port().to_be_bytes(), &client.0.to_be_bytes(), name])
}

#[cfg(test)]
mod tests {
    use super::super::tests::addr;
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_own_request_only() {
        let jar = Jar::new(&mut || [9; 16]);
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
    }
}

//! Hellos to addresses that only another member's word stands for. It may lie, and name a third party's in attempt after attempt: so
//! many go to one network, from all attempts together, and no more.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pace::{Bucket, Pace, Prefix, Prefixes};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::search;

/// To one network (/24, /56): enough for as many flows at once as a server introduces, of which each says two hellos to two
/// addresses; 7.5 kB a second in the long run.
const PACE: Pace = Pace::per_second(50, Duration::from_secs(4));

/// Ports that searches try at one network: two whole searches, and eight that find as soon as most; in the long run as many as
/// hellos. Its address has shown that it receives, but others may share it.
const PROBES: Pace = Pace::per_second(50, Duration::from_secs(40));
/// Sockets that searches open: of four at once, then of one each ten seconds. Each is an entry of the NAT's, for half a minute to two.
const SOCKETS: Pace = Pace::per_second(26, Duration::from_secs(40));

/// How many there were.
#[derive(Debug)]
pub(super) struct Guesses {
    hellos: Prefixes,
    probes: Prefixes,
    sockets: Bucket,
}

impl Guesses {
    /// None yet.
    pub(super) fn new(rng: &mut ChaCha12Rng) -> Self {
        let mut prefixes = || Prefixes::new(|| rng.next_u64());
        Self { hellos: prefixes(), probes: prefixes(), sockets: Bucket::default() }
    }

    /// Whether one more may go there.
    pub(super) fn may(&mut self, now: Instant, to: SocketAddr) -> bool {
        self.hellos.take(now, PACE, Prefix::of(to.ip()), 1)
    }

    /// Whether one more port may be tried there.
    pub(super) fn may_probe(&mut self, now: Instant, to: SocketAddr) -> bool {
        self.probes.take(now, PROBES, Prefix::of(to.ip()), 1)
    }

    /// Whether the sockets of one more search may be opened.
    pub(super) fn may_open(&mut self, now: Instant) -> bool {
        self.sockets.take(now, SOCKETS, u32::try_from(search::SOCKETS).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn one_network_gets_so_many_and_others_theirs() {
        let (mut guesses, begin) = (Guesses::new(&mut ChaCha12Rng::from_seed([1; 32])), Instant::now());
        let mut sent = |to: &str, from: u64, until: u64| {
            let times = (from * 1000..until * 1000).step_by(1).map(|ms| begin + Duration::from_millis(ms));
            times.filter(|now| guesses.may(*now, to.parse().unwrap())).count()
        };
        // A thousand are wanted each second.
        let first = sent("10.0.0.7:53", 0, 1);
        assert!((200..=255).contains(&first), "{first}");
        assert_eq!(sent("10.0.0.9:4000", 1, 2), 50, "another of its network");
        assert!(sent("10.0.1.7:53", 1, 2) >= 200, "another network");
        assert!((500..=550).contains(&sent("10.0.0.7:53", 2, 12)));
    }
    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn searches_are_few() {
        let (mut guesses, begin) = (Guesses::new(&mut ChaCha12Rng::from_seed([1; 32])), Instant::now());
        let mut tried = |to: &str, from: u64, until: u64| {
            let times = (from * 1000..until * 1000).map(|ms| begin + Duration::from_millis(ms));
            times.filter(|now| guesses.may_probe(*now, to.parse().unwrap())).count()
        };
        let first = tried("10.0.0.7:53", 0, 3);
        assert!((2_000..=2_200).contains(&first), "{first}");
        assert_eq!(tried("10.0.0.9:4000", 3, 13), 500, "another of its network");
        assert!(tried("10.0.1.7:53", 13, 14) >= 1_000, "another network");
        let opened = (0..300).filter(|at| guesses.may_open(begin + Duration::from_secs(*at))).count();
        assert!((33..=35).contains(&opened), "{opened} in five minutes");
    }
}

//! Hellos to addresses that only another member's word stands for. It may lie, and name a third party's in attempt after attempt: so
//! many go to one network, from all attempts together, and no more.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pace::{Pace, Prefix, Prefixes};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

/// To one network (/24, /56): enough for as many flows at once as a server introduces, of which each says two hellos to two
/// addresses; 7.5 kB a second in the long run.
const PACE: Pace = Pace::per_second(50, Duration::from_secs(4));

/// How many there were.
#[derive(Debug)]
pub(super) struct Guesses(Prefixes);

impl Guesses {
    /// None yet.
    pub(super) fn new(rng: &mut ChaCha12Rng) -> Self {
        Self(Prefixes::new(|| rng.next_u64()))
    }

    /// Whether one more may go there.
    pub(super) fn may(&mut self, now: Instant, to: SocketAddr) -> bool {
        self.0.take(now, PACE, Prefix::of(to.ip()), 1)
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
}

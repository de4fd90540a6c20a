//! What a server has against floods: how often something may happen, as token buckets, one alone or one for each prefix of
//! addresses; and proof that who asks receives where it sends from ([`cookie`]).

pub mod cookie;

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

/// Buckets per row of [`Prefixes`].
const SLOTS: usize = 4096;
const ROWS: usize = 2;

/// So much on average, so much at once.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two units of what is taken.
    pub interval: Duration,
    /// What may be taken at once, as the time it takes to come back.
    pub burst: Duration,
}

impl Pace {
    /// `rate` units per second, of which those of `burst` may come at once.
    pub const fn per_second(rate: u32, burst: Duration) -> Self {
        Self { interval: Duration::from_nanos(1_000_000_000 / rate as u64), burst }
    }
}

/// A token bucket, kept as the instant at which it will be full.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket(Option<Instant>);

impl Bucket {
    /// Takes `units` if they are there.
    pub fn take(&mut self, now: Instant, pace: Pace, units: u32) -> bool {
        let full = self.0.map_or(now, |full| full.max(now)) + pace.interval * units;
        let there = full <= now + pace.burst;
        if there {
            self.0 = Some(full);
        }
        there
    }
}

/// Addresses that one customer of a network usually has: /24 of IPv4, /56 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(u64);

impl Prefix {
    /// That of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // No prefix of IPv6 has the top bit: it has 56 bits.
            IpAddr::V4(v4) => Self(1 << 63 | u64::from(v4.to_bits() >> 8)),
            IpAddr::V6(v6) => Self(top(v6) >> 8),
        }
    }
}

fn top(v6: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = v6.segments();
    [a, b, c, d].into_iter().fold(0, |top, part| top << 16 | u64::from(part))
}

/// A bucket for every prefix there is, in a fixed table: nothing is inserted, so nothing is ever evicted.
///
/// A prefix has one bucket in each row, chosen by a hash that nobody outside can compute, and passes if any of them
/// lets it. To deny a stranger its share one must exhaust both of its buckets without knowing which they are.
#[derive(Debug)]
pub struct Prefixes {
    keys: [(u64, u64); ROWS],
    rows: Vec<Bucket>,
}

impl Prefixes {
    /// `random` decides who shares a bucket with whom.
    pub fn new(mut random: impl FnMut() -> u64) -> Self {
        let keys = std::array::from_fn(|_| (random(), random()));
        Self { keys, rows: vec![Bucket::default(); ROWS * SLOTS] }
    }

    /// Takes `units` from the buckets of the prefix.
    pub fn take(&mut self, now: Instant, pace: Pace, prefix: Prefix, units: u32) -> bool {
        let mut there = false;
        for (row, (a, b)) in self.keys.iter().enumerate() {
            let mut hasher = SipHasher13::new_with_keys(*a, *b);
            hasher.write_u64(prefix.0);
            #[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash are as good as any")]
            let slot = hasher.finish() as usize % SLOTS;
            there |= self.rows[row * SLOTS + slot].take(now, pace, units);
        }
        there
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any instant will do to begin with")]

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn origin() -> Instant {
        Instant::now()
    }

    const PACE: Pace = Pace::per_second(1000, Duration::from_millis(100));

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_for_ever() {
        let (now, mut bucket) = (origin(), Bucket::default());
        let taken = |bucket: &mut Bucket, now| (0..10_000).filter(|_| bucket.take(now, PACE, 1)).count();
        assert_eq!(taken(&mut bucket, now), 100);
        assert_eq!(taken(&mut bucket, now + ms(50)), 50);
        assert_eq!(taken(&mut bucket, now + ms(60_000)), 100, "a rest fills it, once");
        assert!(bucket.take(now + ms(60_010), PACE, 10) && !bucket.take(now + ms(60_010), PACE, 1));
    }

    #[test]
    fn prefixes_are_of_customers() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        for (a, b, same) in [
            ("10.0.0.1", "10.0.0.255", true),
            ("10.0.0.1", "10.0.1.1", false),
            ("10.0.0.1", "::ffff:10.0.0.9", true),
            ("2001:db8:1:200::1", "2001:db8:1:2ff:ffff::", true),
            ("2001:db8:1:200::1", "2001:db8:1:300::1", false),
            ("::1", "0.0.0.1", false),
        ] {
            assert_eq!(of(a) == of(b), same, "{a} {b}");
        }
    }

    #[test]
    fn a_flood_from_everywhere_takes_nobodys_share() {
        let (mut seed, now) = (7u64, origin());
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed ^ seed >> 29
        };
        let mut prefixes = Prefixes::new(&mut random);
        // 50 prefixes that flood without rest, and 50,000 spoofed requests per second, for a second.
        for n in 0..50_000u64 {
            let now = now + Duration::from_micros(20) * u32::try_from(n).unwrap();
            prefixes.take(now, PACE, Prefix(1 << 63 | random() & 0xff_ffff), 1);
            prefixes.take(now, PACE, Prefix(n % 50), 1);
        }
        let later = now + ms(1000);
        let served = (1000..2000).filter(|n| prefixes.take(later, PACE, Prefix(*n), 1)).count();
        assert!(served >= 995, "{served} of 1000");
        assert_eq!(prefixes.rows.len(), ROWS * SLOTS);
    }
}

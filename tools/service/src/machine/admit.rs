//! Who is let in: prefixes of addresses, how many a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// A token bucket, kept as the instant at which it will be full. It holds a second's worth.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Tokens a second.
    rate: u32,
    full: Option<Instant>,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: NonZeroU32) -> Self {
        Self { rate: rate.get(), full: None }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / self.rate;
        let full = self.full.map_or(now, |full| full.max(now)) + interval;
        let there = full <= now + interval * self.rate;
        if there {
            self.full = Some(full);
        }
        there
    }

    /// Whether it is full: one that is may be forgotten.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full.is_none_or(|full| full <= now)
    }
}

/// Which addresses are allowed: the longest prefix that an address is in decides, and of two alike the one that denies.
/// A look-up costs a step for each length that occurs, however many prefixes there are.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    verdicts: HashMap<IpNet, bool>,
    /// Lengths that occur, the longest first: of IPv4, of IPv6.
    lengths: [Vec<u8>; 2],
    otherwise: bool,
}

impl Prefixes {
    /// Those that are let in, and those that are not. Nothing allowed: all that `deny` does not name.
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
        let mut prefixes = Self { otherwise: allow.is_empty(), ..Self::default() };
        for (nets, allowed) in [(allow, true), (deny, false)] {
            for net in nets.iter().map(canonical) {
                prefixes.lengths[usize::from(net.addr().is_ipv6())].push(net.prefix_len());
                prefixes.verdicts.insert(net.trunc(), allowed);
            }
        }
        for lengths in &mut prefixes.lengths {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        prefixes
    }

    /// Whether an address is let in.
    pub fn allow(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let nets =
            self.lengths[usize::from(client.is_ipv6())].iter().filter_map(|length| IpNet::new(client, *length).ok());
        nets.map(|net| net.trunc()).find_map(|net| self.verdicts.get(&net).copied()).unwrap_or(self.otherwise)
    }
}

/// `::ffff:10.0.0.0/104` is 10.0.0.0/8.
fn canonical(net: &IpNet) -> IpNet {
    match (net.addr().to_canonical(), net) {
        (IpAddr::V4(v4), IpNet::V6(v6)) if v6.prefix_len() >= 96 => {
            IpNet::new(v4.into(), v6.prefix_len() - 96).unwrap_or(*net)
        }
        _ => *net,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_at_once_and_then_the_rate() {
        #[expect(clippy::disallowed_methods, reason = "a machine's time begins somewhere")]
        let start = Instant::now();
        let mut bucket = Bucket::new(NonZeroU32::new(50).unwrap());
        assert_eq!((0..100).filter(|_| bucket.take(start)).count(), 50);
        let later = |ms| start + Duration::from_millis(ms);
        assert!(!bucket.take(later(19)) && bucket.take(later(20)) && !bucket.take(later(20)));
        assert_eq!((0..100).filter(|_| bucket.take(later(60_000))).count(), 50);
    }

    proptest! {
        /// The same as asking every prefix.
        #[test]
        fn the_look_up_finds_the_longest(
            nets in prop::collection::vec((any::<u32>(), 0..=32_u8, any::<bool>()), 0..20),
            asked in any::<u32>(),
            near in any::<prop::sample::Index>(),
        ) {
            let nets: Vec<(IpNet, bool)> = nets
                .into_iter()
                .map(|(bits, length, allowed)| (IpNet::new(IpAddr::from(bits.to_be_bytes()), length).unwrap().trunc(), allowed))
                .collect();
            let of = |wanted: bool| nets.iter().filter(|(_, allowed)| *allowed == wanted).map(|(net, _)| *net).collect::<Vec<_>>();
            let (allow, deny) = (of(true), of(false));
            let prefixes = Prefixes::new(&allow, &deny);
            let mut addresses = vec![IpAddr::from(asked.to_be_bytes())];
            if !nets.is_empty() {
                let net = nets[near.index(nets.len())].0;
                addresses.extend([net.network(), net.broadcast()]);
            }
            for address in addresses {
                let longest = |nets: &[IpNet]| nets.iter().filter(|net| net.contains(&address)).map(IpNet::prefix_len).max();
                let expected = match (longest(&allow), longest(&deny)) {
                    (None, None) => allow.is_empty(),
                    (allowed, denied) => allowed > denied,
                };
                prop_assert_eq!(prefixes.allow(address), expected, "{}", address);
            }
        }
    }
}

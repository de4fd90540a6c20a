//! Who is let in: prefixes of addresses, how many at a time, how many a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::said::rule::Options;

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Its address is in no allowed prefix, or in a denied one.
    Denied,
    /// As many are open as may be.
    TooMany,
    /// More came in this second than may.
    TooFast,
}

impl Refusal {
    /// What happened, by the options that said so.
    pub fn words(self, options: &Options) -> String {
        match (self, options.max_connections, options.rate) {
            (Self::TooMany, Some(most), _) => format!("the rule allows {most} connections at a time"),
            (Self::TooFast, _, Some(rate)) => format!("the rule allows {rate} new connections a second"),
            _ => "the rule does not let its address in".to_owned(),
        }
    }
}

/// One rule's door.
#[derive(Clone, Debug)]
pub struct Door {
    prefixes: Prefixes,
    most: Option<u64>,
    /// New connections a second.
    rate: Option<u32>,
    /// When the bucket will be full.
    full: Option<Instant>,
}

impl Door {
    /// A rule's door, with its bucket full.
    pub fn new(options: &Options) -> Self {
        Self {
            prefixes: Prefixes::new(&options.allow, &options.deny),
            most: options.max_connections.map(|most| u64::from(most.get())),
            rate: options.rate.map(NonZeroU32::get),
            full: None,
        }
    }

    /// Lets a client in, or says why not; `open` connections are there already. A client without an address (over a Unix
    /// socket) is of no prefix: the socket's mode keeps others out. Who is kept out takes nothing from the rate of others.
    pub fn admit(&mut self, now: Instant, client: Option<IpAddr>, open: u64) -> Result<(), Refusal> {
        if client.is_some_and(|client| !self.allows(client)) {
            return Err(Refusal::Denied);
        }
        if self.most.is_some_and(|most| open >= most) {
            return Err(Refusal::TooMany);
        }
        if self.take(now) { Ok(()) } else { Err(Refusal::TooFast) }
    }

    /// Whether an address is let in, if there is room.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.prefixes.allow(client)
    }

    /// A token bucket, kept as the instant at which it will be full. It holds a second's worth.
    fn take(&mut self, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        let interval = Duration::from_secs(1) / rate;
        let full = self.full.map_or(now, |full| full.max(now)) + interval;
        let there = full <= now + interval * rate;
        if there {
            self.full = Some(full);
        }
        there
    }
}

/// Which addresses are allowed: the longest prefix that an address is in decides, and of two alike the one that denies.
/// A look-up costs a step for each length that occurs, however many prefixes there are.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    verdicts: HashMap<IpNet, bool>,
    /// Lengths that occur, the longest first: of IPv4, of IPv6.
    lengths: [Vec<u8>; 2],
    otherwise: bool,
}

impl Prefixes {
    fn new(allow: &[IpNet], deny: &[IpNet]) -> Self {
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

    fn allow(&self, client: IpAddr) -> bool {
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
mod tests;

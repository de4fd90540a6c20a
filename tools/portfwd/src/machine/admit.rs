//! Who is let in: prefixes of addresses, how many at a time, how many a second.

use std::net::IpAddr;
use std::time::Instant;

use service::admit::{Bucket, Prefixes};

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
    rate: Option<Bucket>,
}

impl Door {
    /// A rule's door, with its bucket full.
    pub fn new(options: &Options) -> Self {
        Self {
            prefixes: Prefixes::new(&options.allow, &options.deny),
            most: options.max_connections.map(|most| u64::from(most.get())),
            rate: options.rate.map(Bucket::new),
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
        if self.rate.as_mut().is_none_or(|rate| rate.take(now)) { Ok(()) } else { Err(Refusal::TooFast) }
    }

    /// Whether an address is let in, if there is room.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.prefixes.allow(client)
    }
}

#[cfg(test)]
mod tests;

//! A network in pure code, for tests of machines: hosts, links that lose, delay, double, reorder and corrupt, NATs and
//! firewalls as RFC 4787 names them, and sockets as UDP has them.
//!
//! No clock, no socket, no randomness but a seed: time is what the caller says it is, so hours pass in milliseconds
//! and the same seed plays the same life again.
//!
//! ```
//! # use std::time::{Duration, Instant};
//! # fn life(now: Instant) {
//! use sim::{Event, Link, Network, Realm};
//! let mut net = Network::new(1);
//! let quick = Link { delay: Duration::from_millis(5), ..Link::default() };
//! let a = net.host(Realm::INTERNET, "192.0.2.1".parse().unwrap(), quick.clone(), quick.clone());
//! let b = net.host(Realm::INTERNET, "192.0.2.2".parse().unwrap(), quick.clone(), quick);
//! net.send(now, a, "192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap(), vec![7]);
//! let at = net.next_at().unwrap();
//! # let at = at + Duration::from_millis(5);
//! let Some(Event::Datagram(datagram)) = net.poll(at) else { panic!() };
//! assert_eq!((datagram.host, datagram.bytes), (b, vec![7]));
//! # }
//! ```

mod chance;
mod kinds;
mod link;
mod nat;
mod network;
pub mod seeds;
mod sockets;

pub use kinds::{Kind, Place};
pub use link::{Bursts, Link, Rate};
pub use nat::{Behaviour, Filtering, Mapping, Nat, Ports};
pub use network::{Datagram, Event, Fate, Host, Network, Realm, Tally};
pub use sockets::{InUse, Sockets};

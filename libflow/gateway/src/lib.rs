//! Asks the router before this host to hand a UDP port on to it: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP IGD. IPv4 only: what
//! routers translate.
//!
//! Here is only what is asked and how it is answered; when to ask is decided by who uses it. Every question has an end: three
//! seconds at most for one, ten for [`Client::find`]. What a router says is bounded by the libraries: a datagram of 1,100 bytes, 1 MiB of
//! XML, 64 elements deep.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

mod io;

pub use io::Client;

/// How a router is spoken to, in the order in which it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP Internet Gateway Device, version 1 or 2.
    Upnp,
}

impl Protocol {
    /// As people are told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A router that maps ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Where it is asked: this host's next hop.
    pub at: Ipv4Addr,
    /// How.
    pub by: Protocol,
    /// What it says its address outside is.
    pub outside: Ipv4Addr,
}

/// A port that is to be mapped, or that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// A UDP socket of this host.
    pub local: SocketAddrV4,
    /// The port outside: the one that is wanted, if it is free; 0: any. Of a mapping that there is, the one it has.
    pub outside: u16,
    /// PCP: who does not know it cannot change the mapping.
    pub nonce: [u32; 3],
    /// It is to live so long, seconds.
    pub lifetime: u32,
}

/// A mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Where others reach the port, as the router says.
    pub outside: SocketAddrV4,
    /// So long, seconds. Never 0.
    pub lifetime: u32,
}

/// Why there is no mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The router did not answer.
    Silent,
    /// It said no, or something without sense: in its words, cut to a line of 120 characters.
    Said(String),
    /// This host speaks to it from another address than the socket's: it would map that one's port.
    Elsewhere(Ipv4Addr),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer"),
            Self::Said(words) => f.write_str(words),
            Self::Elsewhere(own) => write!(f, "this host speaks to it from {own}"),
        }
    }
}

/// Why there is no router to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// There is no router on the way: the other end is in this host's network, or there is no route.
    NoRouter,
    /// This router maps nothing; by each protocol why.
    Maps(Ipv4Addr, Vec<(Protocol, Refusal)>),
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRouter => f.write_str("there is no router on the way"),
            Self::Maps(at, tried) if tried.iter().all(|(_, why)| *why == Refusal::Silent) => {
                write!(f, "the router {at} maps no ports: no answer to PCP, NAT-PMP or UPnP")
            }
            Self::Maps(at, tried) => {
                write!(f, "the router {at} maps no ports")?;
                for (number, (by, why)) in tried.iter().enumerate() {
                    write!(f, "{} {by}: {why}", if number == 0 { ":" } else { ";" })?;
                }
                Ok(())
            }
        }
    }
}

/// What a router answered to, without anything being mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The router.
    pub at: Ipv4Addr,
    /// By each protocol: its address outside (with PCP it is not said before a port is mapped), or why not.
    pub answers: [(Protocol, Result<Option<Ipv4Addr>, Refusal>); 3],
}

/// Words of a router, for people: one line, bounded, nothing that a terminal obeys.
fn words(text: &str) -> String {
    const MOST: usize = 120;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut words: String = text.chars().take(MOST).map(plain).collect();
    if text.chars().nth(MOST).is_some() {
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_router_are_one_short_line() {
        let said = words(&format!("no\u{1b}[2J\n{}", "x".repeat(1 << 20)));
        assert_eq!(said.chars().count(), 121);
        assert!(said.starts_with("no [2J x") && !said.chars().any(char::is_control), "{said}");
        assert_eq!(words("Not authorized"), "Not authorized");
    }

    #[test]
    fn why_nothing_is_mapped_is_said_by_protocol() {
        let at = Ipv4Addr::new(192, 168, 1, 1);
        let silent = [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp].map(|by| (by, Refusal::Silent));
        let said = NotFound::Maps(at, silent.to_vec()).to_string();
        assert_eq!(said, "the router 192.168.1.1 maps no ports: no answer to PCP, NAT-PMP or UPnP");
        let mixed = vec![(Protocol::Pcp, Refusal::Said("Not authorized".into())), (Protocol::Upnp, Refusal::Silent)];
        let said = NotFound::Maps(at, mixed).to_string();
        assert_eq!(said, "the router 192.168.1.1 maps no ports: PCP: Not authorized; UPnP: no answer");
    }
}

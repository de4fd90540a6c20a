//! Why two sides do not meet, and what people are told of it.

use std::net::SocketAddr;

use proto::Name;
use proto::rendezvous::{Nat, Refusal};

use super::nat;

/// Why there is no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server did not answer.
    ServerSilent(u32),
    /// It knows no such session, or the key is another.
    UnknownSession,
    /// It said no.
    Refused(Refusal),
    /// The member that has the name was told, and did not come.
    PeerAbsent,
    /// Both sides said hello and none arrived both ways.
    NoPath {
        /// What stands before this host.
        own: Nat,
        /// And before the other.
        peer: Nat,
        /// Addresses that were tried.
        tried: usize,
        /// Hellos came in, and answers did not.
        heard: bool,
        /// What the relay said; nothing where there is none.
        relay: Option<Refusal>,
    },
}

impl Trouble {
    /// Whether fresh ports may help. Where no address could be tried, they do not.
    pub fn is_worth_another(&self) -> bool {
        matches!(self, Self::NoPath { relay: None, tried: 1.., .. })
    }

    /// What happened to the flow, and what to do.
    pub fn sentence(&self, name: &Name, server: SocketAddr) -> String {
        match self {
            Self::ServerSilent(asked) => format!(
                "the rendezvous {server} did not answer for {name} (asked {asked} times); is it up, and may UDP go there?"
            ),
            Self::UnknownSession => format!(
                "the rendezvous {server} knows no such session, or its key is another; compare --session and --key-file"
            ),
            Self::Refused(refusal) => format!("{name} is not to be had through {server}: {}", said(*refusal)),
            Self::PeerAbsent => format!(
                "the host that has {name} was told by {server} and did not come; its ipcpd-udp may just have ended, try again"
            ),
            Self::NoPath { own, peer, tried, heard, relay } => {
                let relay = match relay {
                    None => "a relay would do: start the rendezvous with --relay".to_owned(),
                    Some(refusal) => format!("and not relayed: {}", said(*refusal)),
                };
                no_path(name, *own, *peer, *tried, *heard, &relay)
            }
        }
    }
}

fn no_path(name: &Name, own: Nat, peer: Nat, tried: usize, heard: bool, relay: &str) -> String {
    let ways = if tried == 1 { "1 address".to_owned() } else { format!("{tried} addresses") };
    let why = match nat::hindrance(own, peer) {
        Some(why) => why,
        None if tried == 0 => {
            "the peer's addresses are of the other IP version: it joined over IPv6 and this host over IPv4, or the opposite"
        }
        None if heard => {
            "hellos came in, but no answer did: a firewall or filter on one side lets only one direction pass"
        }
        None => "no hello arrived: a firewall may drop UDP, or both hosts are behind one NAT that does not hairpin",
    };
    format!(
        "no direct path to {name} ({ways} tried); you: {}, peer: {}; cannot be punched because {why}; {relay}",
        nat::words(own),
        nat::words(peer)
    )
}

fn said(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownName => "no member of the session has the name; see irm name list",
        Refusal::Silent => "the member that has the name is silent; it may have ended",
        Refusal::TooMany => "too many ask for it at once; try again in a moment",
        Refusal::Yourself => "this host has it itself, and no program serves it here",
        Refusal::Exhausted => "the member that has the name has no socket to give; try later",
        Refusal::NoRelay => "the server has no relay",
        Refusal::Quota => "the relay's quota is used up",
        Refusal::UnknownAttempt => "the server was restarted in between, or forgot; try again",
    }
}

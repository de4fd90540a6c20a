//! Why two sides do not meet, and what people are told of it.

use std::net::SocketAddr;

use proto::Name;
use proto::rendezvous::{Mapping, Nat, Refusal};

use super::{nat, search};

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
        /// This side predicts no ports, nor says how its own may be.
        plain: bool,
        /// Many sockets or ports were tried, too.
        searched: bool,
        /// What the relay said; nothing where there is none.
        relay: Option<Refusal>,
    },
}

impl Trouble {
    /// Whether fresh ports may help. Where no address could be tried, they do not.
    pub fn is_worth_another(&self) -> bool {
        matches!(self, Self::NoPath { relay: None, tried: 1.., searched: false, .. })
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
            Self::NoPath { own, peer, tried, heard, plain, searched, relay } => {
                let relay = match relay {
                    None => format!(
                        "a relay would do: start the rendezvous with --relay{}{}",
                        if *plain { unpredicted(*own, *peer) } else { "" },
                        further(*own, *peer, *searched)
                    ),
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

/// Where this side takes no part in prediction, and that might do.
fn unpredicted(own: Nat, peer: Nat) -> &'static str {
    let hopeless = peer.mapping == Mapping::PortDependent && peer.step == 0;
    if nat::hindrance(own, peer).is_none() || hopeless {
        return "";
    }
    "; so might prediction, if the symmetric NAT counts its ports: enroll without --punch plain"
}

/// What else was done, or could be.
fn further(own: Nat, peer: Nat, searched: bool) -> &'static str {
    let willing = |nat: Nat| Nat { search: true, ..nat };
    match (own.search, peer.search) {
        _ if searched => "; a search by many ports found none either, another try may",
        _ if search::role(willing(own), willing(peer)).is_none() => "",
        (true, true) => "",
        (false, _) => "; so might a search: enroll with --punch search, as the peer has to",
        (true, false) => "; so might a search: the peer has to be enrolled with --punch search, too",
    }
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

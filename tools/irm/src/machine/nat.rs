//! What kind of NAT this host is behind, from what a rendezvous saw of some sockets; by RFC 4787's words.

pub mod lifetime;
mod words;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

pub use lifetime::{Hindrance, Lifetime};
pub use words::text;

/// Steps of ports up to this are steps; larger ones are chance.
const STEP: i32 = 16;

/// A fresh socket, and where the server saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its own port.
    pub port: u16,
    /// Where it was seen.
    pub public: SocketAddr,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who was asked.
    pub server: SocketAddr,
    /// Its other port; none: it has none, and little can be found out.
    pub other: Option<SocketAddr>,
    /// The first socket's own address.
    pub local: SocketAddr,
    /// Fresh sockets in the order in which they asked, the first socket first.
    pub sockets: Vec<Seen>,
    /// Whether what the other port said arrived before anything was sent there.
    pub heard_from_other: Option<bool>,
    /// Where that saw the first socket.
    pub at_other: Option<SocketAddr>,
    /// Where a server at another address saw it.
    pub at_second: Option<SocketAddr>,
    /// What one socket sent to the public address of another.
    pub hairpin: Option<Hairpin>,
    /// How long mappings live.
    pub lifetime: Option<Lifetime>,
    /// What the next hop answers to that maps ports; none where there is none.
    pub router: Option<gateway::Survey>,
}

/// This host's router, as one that maps ports when it is asked to.
#[derive(Clone, Debug, Serialize)]
pub struct Router {
    /// Where this host knows it.
    pub address: Ipv4Addr,
    /// What it answers to, as members of a session with --map-ports try it.
    pub maps_by: Vec<&'static str>,
    /// Its address outside, if it said so.
    pub outside: Option<Ipv4Addr>,
    /// That is where the server sees this host; else another NAT is before it. Null: not known.
    pub is_public: Option<bool>,
    /// What it refused, in its words.
    pub refused: Vec<String>,
}

/// Whether this host reaches itself by its public address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hairpin {
    /// It comes back, from the public address: as it should.
    External,
    /// It comes back, from the inner address, which a peer may not take for the sender.
    Internal,
    /// Nothing comes back.
    No,
}

/// RFC 4787, section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// The socket's own address is seen.
    None,
    /// The same wherever the socket sends to.
    EndpointIndependent,
    /// The same for both ports of one address; another address was not asked.
    EndpointIndependentOrAddressDependent,
    /// Another for each address.
    AddressDependent,
    /// Another for each address and port: "symmetric".
    AddressAndPortDependent,
    /// The server's other port does not answer.
    Unknown,
}

/// RFC 4787, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Whoever is at an address that was sent to is let in, perhaps everybody.
    EndpointIndependentOrAddressDependent,
    /// Only the address and port that were sent to.
    AddressAndPortDependent,
    /// The server's other port does not answer.
    Unknown,
}

/// RFC 4787, section 4.2: the ports that fresh sockets get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Ports {
    /// There is no NAT, or there were too few to say.
    Unknown,
    /// Each its own.
    Preserved,
    /// One after the other.
    Sequential {
        /// From one to the next, the least and the most.
        least: i32,
        /// As said.
        most: i32,
    },
    /// In no order.
    Random,
}

/// What it comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Who was asked.
    pub server: SocketAddr,
    /// The first socket's own address.
    pub local: SocketAddr,
    /// Where that was seen.
    pub public: Option<SocketAddr>,
    /// Several public addresses, a different one for each socket.
    pub several_addresses: bool,
    /// As its type says.
    pub mapping: Mapping,
    /// As its type says.
    pub filtering: Filtering,
    /// As its type says; null: not asked.
    pub hairpinning: Option<Hairpin>,
    /// As its type says.
    pub ports: Ports,
    /// As its type says; null: not asked.
    pub lifetime: Option<Lifetime>,
    /// As its type says; null: there is no router on the way, or the server was asked over IPv6.
    pub router: Option<Router>,
    /// With whom direct flows can be had.
    pub direct: Direct,
}

/// With whom hosts behind such a NAT meet: docs/rendezvous.md, "Who meets".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direct {
    /// With everybody.
    All,
    /// With all but those behind NATs with a mapping for each destination.
    AllButSymmetric,
    /// Only with those whose filter looks at addresses at most.
    OpenFilters,
    /// Too little is known.
    Unknown,
}

impl Facts {
    /// What these come to.
    pub fn found(&self) -> Found {
        let public = self.sockets.first().map(|seen| seen.public);
        let (mapping, filtering) = (self.mapping(public), self.filtering());
        let ip = public.map(|public| public.ip());
        Found {
            server: self.server,
            local: self.local,
            public,
            several_addresses: self.sockets.iter().any(|seen| Some(seen.public.ip()) != ip),
            mapping,
            filtering,
            hairpinning: self.hairpin,
            ports: if mapping == Mapping::None { Ports::Unknown } else { ports(&self.sockets) },
            lifetime: self.lifetime,
            router: self.router.as_ref().map(|survey| router(survey, ip)),
            direct: direct(mapping, filtering),
        }
    }

    fn mapping(&self, public: Option<SocketAddr>) -> Mapping {
        if public == Some(self.local) {
            return Mapping::None;
        }
        match (self.at_other, self.at_second) {
            (Some(other), _) if Some(other) != public => Mapping::AddressAndPortDependent,
            (Some(_), Some(second)) if Some(second) != public => Mapping::AddressDependent,
            (Some(_), Some(_)) => Mapping::EndpointIndependent,
            (Some(_), None) => Mapping::EndpointIndependentOrAddressDependent,
            // Seen alike from two addresses; or not, and whether by port, too, makes no difference to who is met.
            (None, Some(second)) if Some(second) == public => Mapping::EndpointIndependent,
            (None, Some(_)) => Mapping::AddressDependent,
            (None, None) => Mapping::Unknown,
        }
    }

    fn filtering(&self) -> Filtering {
        match (self.heard_from_other, self.at_other) {
            (Some(true), _) => Filtering::EndpointIndependentOrAddressDependent,
            (Some(false), Some(_)) => Filtering::AddressAndPortDependent,
            // It does not answer when it is asked, either: its silence says nothing.
            (Some(false) | None, _) => Filtering::Unknown,
        }
    }
}

fn router(survey: &gateway::Survey, public: Option<IpAddr>) -> Router {
    let outside = survey.answers.iter().find_map(|(_, answer)| answer.as_ref().ok().copied().flatten());
    let refused = |(by, answer): &(gateway::Protocol, Result<_, gateway::Refusal>)| match answer {
        Err(gateway::Refusal::Silent) | Ok(_) => None,
        Err(why) => Some(format!("{by}: {why}")),
    };
    Router {
        address: survey.at,
        maps_by: survey.answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(by, _)| by.as_str()).collect(),
        outside,
        is_public: outside.zip(public).map(|(outside, public)| IpAddr::V4(outside) == public),
        refused: survey.answers.iter().filter_map(refused).collect(),
    }
}

fn ports(sockets: &[Seen]) -> Ports {
    if sockets.len() < 3 {
        return Ports::Unknown;
    }
    if sockets.iter().all(|seen| seen.port == seen.public.port()) {
        return Ports::Preserved;
    }
    // Around the end of the ports, too.
    let step = |pair: &[Seen]| i32::from(pair[1].public.port().wrapping_sub(pair[0].public.port()).cast_signed());
    let steps: Vec<i32> = sockets.windows(2).map(step).collect();
    let (least, most) = (steps.iter().copied().min().unwrap_or(0), steps.iter().copied().max().unwrap_or(0));
    let ordered = (1..=STEP).contains(&least) && most <= STEP || (-STEP..=-1).contains(&most) && least >= -STEP;
    if ordered { Ports::Sequential { least, most } } else { Ports::Random }
}

fn direct(mapping: Mapping, filtering: Filtering) -> Direct {
    match (mapping, filtering) {
        (Mapping::AddressDependent | Mapping::AddressAndPortDependent, _) => Direct::OpenFilters,
        (Mapping::Unknown, _) | (_, Filtering::Unknown) => Direct::Unknown,
        (_, Filtering::AddressAndPortDependent) => Direct::AllButSymmetric,
        (_, Filtering::EndpointIndependentOrAddressDependent) => Direct::All,
    }
}

#[cfg(test)]
mod tests;

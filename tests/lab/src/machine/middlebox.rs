//! The kinds of middlebox, in the words of RFC 4787.

use std::fmt;
use std::str::FromStr;

/// What stands between a host and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Middlebox {
    /// A plain router: the host is reachable at its own address.
    Open,
    /// No translation, but only answers come in.
    Firewall,
    /// A NAT through which anybody reaches a port that the host has sent from.
    FullCone,
    /// A NAT that lets in whom the host has sent to, from any of their ports.
    AddressRestricted,
    /// A NAT that lets in only the address and port that the host has sent to. Most home routers.
    PortRestricted,
    /// A NAT with another port for each destination address.
    SymmetricByAddress,
    /// A NAT with another port for each destination address and port: the next one.
    SymmetricSequential,
    /// A NAT with another port for each destination address and port: any one.
    SymmetricRandom,
    /// Two NATs in a row, both port-restricted: the home's and the carrier's.
    CarrierOverCone,
    /// Two NATs in a row: a symmetric one (random) at home, the carrier's port-restricted.
    CarrierOverSymmetric,
}

/// On what the mapping of a port, or who is let in, depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// On nothing at the other end.
    EndpointIndependent,
    /// On the other end's address.
    AddressDependent,
    /// On the other end's address and port.
    AddressAndPortDependent,
}

use Behaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

impl Middlebox {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::SymmetricByAddress,
        Self::SymmetricSequential,
        Self::SymmetricRandom,
        Self::CarrierOverCone,
        Self::CarrierOverSymmetric,
    ];

    /// Its name, as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Firewall => "firewall",
            Self::FullCone => "full-cone",
            Self::AddressRestricted => "address-restricted",
            Self::PortRestricted => "port-restricted",
            Self::SymmetricByAddress => "symmetric-by-address",
            Self::SymmetricSequential => "symmetric-sequential",
            Self::SymmetricRandom => "symmetric-random",
            Self::CarrierOverCone => "carrier-over-cone",
            Self::CarrierOverSymmetric => "carrier-over-symmetric",
        }
    }

    /// Whether others see another address than the host's.
    pub fn translates(self) -> bool {
        !matches!(self, Self::Open | Self::Firewall)
    }

    /// On what the port that others see depends.
    pub fn mapping(self) -> Behaviour {
        match self {
            Self::SymmetricByAddress => AddressDependent,
            Self::SymmetricSequential | Self::SymmetricRandom | Self::CarrierOverSymmetric => AddressAndPortDependent,
            _ => EndpointIndependent,
        }
    }

    /// On what it depends who is let in.
    pub fn filtering(self) -> Behaviour {
        match self {
            Self::Open | Self::FullCone => EndpointIndependent,
            Self::AddressRestricted => AddressDependent,
            _ => AddressAndPortDependent,
        }
    }

    /// Whether it is made with nftables; the open router is not.
    pub fn needs_nft(self) -> bool {
        self != Self::Open
    }

    /// Whether its rules have a map `senders`.
    pub(crate) fn remembers_senders(self) -> bool {
        matches!(self, Self::FullCone | Self::AddressRestricted)
    }

    /// The single boxes it is made of, the host's first.
    pub(crate) fn boxes(self) -> Vec<Self> {
        match self {
            Self::CarrierOverCone => vec![Self::PortRestricted, Self::PortRestricted],
            Self::CarrierOverSymmetric => vec![Self::SymmetricRandom, Self::PortRestricted],
            single => vec![single],
        }
    }
}

impl fmt::Display for Middlebox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Middlebox {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("'{text}' is no middlebox; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in Middlebox::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "cone".parse::<Middlebox>().unwrap_err();
        assert!(error.contains("'cone'") && error.contains("full-cone"), "{error}");
    }

    #[test]
    fn two_in_a_row_behave_as_the_stricter() {
        for kind in Middlebox::ALL {
            let boxes = kind.boxes();
            assert_eq!(kind.mapping(), boxes.iter().map(|single| single.mapping()).max().unwrap(), "{kind}");
            assert_eq!(kind.filtering(), boxes.iter().map(|single| single.filtering()).max().unwrap(), "{kind}");
            assert!(boxes.iter().all(|single| single.boxes().len() == 1), "{kind}");
        }
    }
}

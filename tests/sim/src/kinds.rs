//! The ten kinds of middlebox between a host and the network that `flowring-tests` builds of nftables, too.

use std::net::{IpAddr, Ipv4Addr};

use crate::nat::{Behaviour, Filtering, Mapping, Ports};
use crate::network::{Network, Realm};

/// What stands between a host and the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nothing.
    Open,
    /// A stateful firewall: only the return path of what was sent.
    Firewall,
    /// One mapping, open to all.
    FullCone,
    /// One mapping, open to addresses that were sent to.
    AddressRestricted,
    /// One mapping, open to endpoints that were sent to.
    PortRestricted,
    /// A mapping per remote endpoint, ports at random.
    SymmetricRandom,
    /// A mapping per remote endpoint, ports in a row.
    SymmetricSequential,
    /// A mapping per remote address, open to endpoints that were sent to.
    SymmetricPerAddress,
    /// Two boxes in a row, both port-restricted.
    CarrierPortRestricted,
    /// A port-restricted box behind a symmetric one.
    CarrierSymmetric,
}

/// Where a host behind a box sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its network.
    pub realm: Realm,
    /// Its address there.
    pub address: IpAddr,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::Firewall,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::SymmetricRandom,
        Self::SymmetricSequential,
        Self::SymmetricPerAddress,
        Self::CarrierPortRestricted,
        Self::CarrierSymmetric,
    ];

    /// As tables name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open host",
            Self::Firewall => "stateful firewall",
            Self::FullCone => "full cone",
            Self::AddressRestricted => "address-restricted cone",
            Self::PortRestricted => "port-restricted cone",
            Self::SymmetricRandom => "symmetric, random ports",
            Self::SymmetricSequential => "symmetric, sequential ports",
            Self::SymmetricPerAddress => "symmetric per address",
            Self::CarrierPortRestricted => "carrier NAT over port-restricted",
            Self::CarrierSymmetric => "carrier NAT over symmetric",
        }
    }

    /// What the outermost box does; nothing before an open host.
    pub fn behaviour(self) -> Option<Behaviour> {
        use Filtering as F;
        use Mapping as M;
        let (mapping, filtering, ports) = match self {
            Self::Open => return None,
            Self::Firewall => return Some(Behaviour::firewall()),
            Self::FullCone => (M::EndpointIndependent, F::EndpointIndependent, Ports::Preserving),
            Self::AddressRestricted => (M::EndpointIndependent, F::AddressDependent, Ports::Preserving),
            Self::PortRestricted | Self::CarrierPortRestricted => {
                (M::EndpointIndependent, F::AddressAndPortDependent, Ports::Preserving)
            }
            Self::SymmetricRandom | Self::CarrierSymmetric => {
                (M::AddressAndPortDependent, F::AddressAndPortDependent, Ports::Random)
            }
            Self::SymmetricSequential => (M::AddressAndPortDependent, F::AddressAndPortDependent, Ports::Sequential),
            Self::SymmetricPerAddress => (M::AddressDependent, F::AddressAndPortDependent, Ports::Random),
        };
        Some(Behaviour::new(mapping, filtering, ports))
    }

    /// Builds the boxes behind the public address `outer`, and says where a host goes.
    pub fn build(self, network: &mut Network, outer: IpAddr) -> Place {
        let Some(behaviour) = self.behaviour() else { return Place { realm: Realm::INTERNET, address: outer } };
        let realm = network.nat(Realm::INTERNET, outer, behaviour);
        if !behaviour.translates {
            return Place { realm, address: outer };
        }
        let realm = match self {
            Self::CarrierPortRestricted | Self::CarrierSymmetric => {
                let home = Self::PortRestricted.behaviour().unwrap_or_else(Behaviour::firewall);
                // RFC 6598: what carriers number their customers with.
                network.nat(realm, Ipv4Addr::new(100, 64, 0, 2).into(), home)
            }
            _ => realm,
        };
        Place { realm, address: Ipv4Addr::new(192, 168, 1, 2).into() }
    }
}

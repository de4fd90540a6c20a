//! A NAT or a firewall, by the words of RFC 4787.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

/// Which packets of one inner endpoint leave from the same outer one (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// All.
    EndpointIndependent,
    /// Those to the same address.
    AddressDependent,
    /// Those to the same address and port ("symmetric").
    AddressAndPortDependent,
}

/// Who may send to an outer endpoint (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Everybody.
    EndpointIndependent,
    /// Addresses that were sent to.
    AddressDependent,
    /// Addresses and ports that were sent to.
    AddressAndPortDependent,
}

/// Which outer port a new mapping gets (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The inner one if it is free, else the next free one above it.
    Preserving,
    /// One after the other.
    Sequential,
    /// Any.
    Random,
}

/// What a NAT does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Its mapping.
    pub mapping: Mapping,
    /// Its filtering.
    pub filtering: Filtering,
    /// Its choice of ports.
    pub ports: Ports,
    /// A mapping, and the leave of an outer endpoint to send to it, ends this long after it was last used (§4.3: not
    /// under two minutes; many boxes: 30 s).
    pub lifetime: Duration,
    /// What comes in keeps a mapping alive, too (§4.3: "Inbound refresh behavior").
    pub inbound_refresh: bool,
    /// Hosts behind it reach each other by their outer endpoints (§6).
    pub hairpin: bool,
    /// It changes addresses. One that does not is a stateful firewall.
    pub translates: bool,
    /// Outer ports for mappings, both ends included.
    pub range: (u16, u16),
}

impl Behaviour {
    /// A translating box with these three, two minutes, inbound refresh, no hairpinning, all ports from 1024 on.
    pub fn new(mapping: Mapping, filtering: Filtering, ports: Ports) -> Self {
        Self {
            mapping,
            filtering,
            ports,
            lifetime: Duration::from_secs(120),
            inbound_refresh: true,
            hairpin: false,
            translates: true,
            range: (1024, u16::MAX),
        }
    }

    /// A stateful firewall: no translation; in comes what answers.
    pub fn firewall() -> Self {
        let all = Self::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent, Ports::Preserving);
        Self { translates: false, ..all }
    }
}

/// Whither a mapping holds.
type Scope = Option<(IpAddr, Option<u16>)>;

#[derive(Clone, Debug)]
struct Entry {
    inner: SocketAddr,
    scope: Scope,
    used: Instant,
    /// Sent to from here, and when last.
    sent: BTreeMap<SocketAddr, Instant>,
}

/// A box between an inner and an outer side, and what it remembers.
#[derive(Clone, Debug)]
pub struct Nat {
    behaviour: Behaviour,
    outer: IpAddr,
    /// By outer endpoint.
    entries: BTreeMap<SocketAddr, Entry>,
    by_inner: BTreeMap<(SocketAddr, Scope), SocketAddr>,
    /// Outer port to inner endpoint, for ever and for everybody.
    forwards: BTreeMap<u16, SocketAddr>,
    handed_in: BTreeMap<u16, SocketAddr>,
    /// Inner endpoints and who was heard at the port that is handed in to them.
    heard: BTreeMap<(SocketAddr, SocketAddr), u16>,
    next_port: u16,
}

impl Nat {
    /// A box with an outer address; a firewall has none and ignores it.
    pub fn new(behaviour: Behaviour, outer: IpAddr) -> Self {
        let next_port = behaviour.range.0;
        Self {
            behaviour,
            outer,
            entries: BTreeMap::new(),
            by_inner: BTreeMap::new(),
            forwards: BTreeMap::new(),
            handed_in: BTreeMap::new(),
            heard: BTreeMap::new(),
            next_port,
        }
    }

    /// What it was made to do.
    pub fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// It does this from now on; what it has learned stays.
    pub fn behave(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
    }

    /// Its address on the outer side.
    pub fn outer(&self) -> IpAddr {
        self.outer
    }

    /// What arrives at the outer port goes to the inner endpoint, whoever sends; what that endpoint sends leaves from
    /// the port. For a firewall the port is that of the endpoint: it lets strangers in.
    pub fn forward(&mut self, port: u16, inner: SocketAddr) {
        self.forwards.insert(port, inner);
    }

    /// What arrives at the outer port goes to the inner endpoint, as a router maps it that was asked to (PCP): what that endpoint sends leaves
    /// from the port to those only who were heard there, else from where it would without.
    pub fn hand_in(&mut self, port: u16, inner: SocketAddr) {
        self.handed_in.insert(port, inner);
    }

    /// Everything it learned is lost, as at a restart of the box; forwards stay.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.by_inner.clear();
        self.heard.clear();
    }

    /// Mappings that live.
    pub fn mappings(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.entries.len()
    }

    /// A datagram goes out: the source it has outside. `None`: no port is left.
    pub fn outbound(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        rng: &mut ChaCha12Rng,
    ) -> Option<SocketAddr> {
        self.expire(now);
        if self.behaviour.translates
            && let Some((port, _)) = self.forwards.iter().find(|(_, inner)| **inner == from)
        {
            return Some(SocketAddr::new(self.outer, *port));
        }
        if let Some(port) = self.heard.get(&(from, to)) {
            return Some(SocketAddr::new(self.outer, *port));
        }
        let scope = self.scope(to);
        let outer = match self.by_inner.get(&(from, scope)) {
            Some(outer) => *outer,
            None => self.map(now, from, scope, rng)?,
        };
        let entry = self.entries.get_mut(&outer)?;
        entry.used = now;
        entry.sent.insert(to, now);
        Some(outer)
    }

    /// A datagram comes in: where to. `None`: it is filtered.
    pub fn inbound(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        self.expire(now);
        if let Some(inner) = self.forwards.get(&to.port())
            && (self.behaviour.translates || *inner == to)
        {
            return Some(*inner);
        }
        if let Some(inner) = self.handed_in.get(&to.port()) {
            self.heard.insert((*inner, from), to.port());
            return Some(*inner);
        }
        let entry = self.entries.get_mut(&to)?;
        let may = match self.behaviour.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => entry.sent.keys().any(|sent| sent.ip() == from.ip()),
            Filtering::AddressAndPortDependent => entry.sent.contains_key(&from),
        };
        if may && self.behaviour.inbound_refresh {
            entry.used = now;
            if let Some(sent) = entry.sent.get_mut(&from) {
                *sent = now;
            }
        }
        may.then_some(entry.inner)
    }

    fn scope(&self, to: SocketAddr) -> Scope {
        match self.behaviour.mapping {
            // A firewall's endpoints are their own, whomever they talk to.
            _ if !self.behaviour.translates => None,
            Mapping::EndpointIndependent => None,
            Mapping::AddressDependent => Some((to.ip(), None)),
            Mapping::AddressAndPortDependent => Some((to.ip(), Some(to.port()))),
        }
    }

    fn map(&mut self, now: Instant, inner: SocketAddr, scope: Scope, rng: &mut ChaCha12Rng) -> Option<SocketAddr> {
        let outer =
            if self.behaviour.translates { SocketAddr::new(self.outer, self.choose(inner, rng)?) } else { inner };
        self.entries.insert(outer, Entry { inner, scope, used: now, sent: BTreeMap::new() });
        self.by_inner.insert((inner, scope), outer);
        Some(outer)
    }

    /// A free port.
    fn choose(&mut self, inner: SocketAddr, rng: &mut ChaCha12Rng) -> Option<u16> {
        let (first, last) = self.behaviour.range;
        let count = u32::from(last - first) + 1;
        let begin = match self.behaviour.ports {
            Ports::Preserving => inner.port().clamp(first, last),
            Ports::Sequential => self.next_port,
            Ports::Random => first + (rng.next_u32() % count) as u16,
        };
        let free = (0..count)
            .map(|n| first + ((u32::from(begin - first) + n) % count) as u16)
            .find(|port| !self.taken(*port))?;
        self.next_port = if free == last { first } else { free + 1 };
        Some(free)
    }

    fn taken(&self, port: u16) -> bool {
        self.forwards.contains_key(&port) || self.entries.contains_key(&SocketAddr::new(self.outer, port))
    }

    fn expire(&mut self, now: Instant) {
        let lifetime = self.behaviour.lifetime;
        self.entries.retain(|outer, entry| {
            entry.sent.retain(|_, at| now < *at + lifetime);
            let lives = now < entry.used + lifetime;
            if !lives && self.by_inner.get(&(entry.inner, entry.scope)) == Some(outer) {
                self.by_inner.remove(&(entry.inner, entry.scope));
            }
            lives
        });
    }
}

#[cfg(test)]
mod tests;

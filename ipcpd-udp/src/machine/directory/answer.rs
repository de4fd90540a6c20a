//! What to make of a name's records: the hosts that a flow may go to, and which of them no flow goes to, and why.
//!
//! A claim (TXT) speaks for its address: while it lives the host is there, once it is void the address is void with it,
//! though its address record may still stand. Addresses and services that no claim speaks for were written by an
//! administrator and last. docs/directory.md, "What a look-up makes of it".

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use proto::shim::PORT;
use proto::{HostId, Name};

use super::claim::{Claim, ClaimError, Key};
use super::fingerprint::Fingerprint;

/// Why no flow goes to this host by way of DNS.
pub const THIS_HOST: &str = "it is this host";
/// Hosts of a name that are looked at; a server that names more is wrong.
pub const MOST_HOSTS: usize = 64;

/// What a name server holds for a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// TXT records, each with its strings.
    pub texts: Vec<Vec<Vec<u8>>>,
    /// SRV records.
    pub services: Vec<Service>,
    /// A or AAAA records at the name itself.
    pub addresses: Vec<IpAddr>,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower is tried first.
    pub priority: u16,
    /// Of the same priority, the larger is tried more often.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host's domain name, lower case, without the last dot; empty for "there is none".
    pub target: String,
    /// Its addresses; none where it is the name itself.
    pub addresses: Vec<IpAddr>,
}

/// Which kind of record named a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A claim.
    Claim,
    /// A service.
    Service,
    /// An address alone.
    Address,
}

/// A host that may have the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where its shim listens.
    pub at: SocketAddr,
    /// What said so.
    pub from: From,
    /// Which host, where it says.
    pub id: HostId,
    /// Its key, where it says.
    pub key: Option<Fingerprint>,
    /// Void from this time on, seconds since 1970.
    pub expires: Option<u64>,
    /// The same on this host's clock.
    pub until: Option<Instant>,
    /// Lower is tried first.
    pub rank: u32,
    /// Of the same rank, the larger is tried more often.
    pub weight: u16,
    /// Why no flow goes there.
    pub ignored: Option<&'static str>,
}

impl Host {
    /// Whether a flow may go there at `now`.
    pub fn is_usable(&self, now: Instant) -> bool {
        self.ignored.is_none() && self.until.is_none_or(|until| now < until)
    }
}

/// Whose records, and when: seconds since 1970 and this host's clock.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The name.
    pub name: &'a Name,
    /// Its domain name.
    pub domain: &'a str,
    /// This host's shim.
    pub own: SocketAddr,
    /// Seconds since 1970.
    pub wall: u64,
    /// The same moment.
    pub now: Instant,
}

/// Every host that the records name, also those no flow goes to, at most [`MOST_HOSTS`].
pub fn hosts(records: &Records, asked: Asked<'_>) -> Vec<Host> {
    let claims: Vec<Claim> = records.texts.iter().filter_map(|strings| Claim::decode(strings).ok()).collect();
    let spoken_for = |ip: &IpAddr| claims.iter().any(|claim| !claim.kept && claim.at.ip() == *ip);
    let standing: Vec<IpAddr> = records.addresses.iter().copied().filter(|ip| !spoken_for(ip)).collect();
    // A claim with another port brings a service record of its own.
    let by_claim = |service: &Service| {
        service.target == asked.domain && claims.iter().any(|claim| !claim.kept && claim.at.port() == service.port)
    };
    let services: Vec<&Service> = records.services.iter().filter(|service| !by_claim(service)).collect();

    let mut hosts = Vec::new();
    for claim in claims.iter().filter(|claim| claim.is_for(asked.name)) {
        add(&mut hosts, &asked, claim.at, |host| {
            host.from = From::Claim;
            host.id = claim.host;
            host.expires = claim.expires;
            host.until =
                claim.expires.and_then(|at| asked.now.checked_add(Duration::from_secs(at.saturating_sub(asked.wall))));
            match claim.key {
                Key::Unsaid => {}
                Key::Is(key) => host.key = Some(key),
                Key::Malformed => host.ignored = Some("its record's key is no fingerprint (SHA256: and 43 characters)"),
            }
            if !claim.is_live(asked.wall) {
                host.ignored = Some("its record is void: the host did not refresh it");
            }
        });
    }
    for service in &services {
        let addresses = if service.target == asked.domain { &standing } else { &service.addresses };
        for ip in addresses {
            add(&mut hosts, &asked, SocketAddr::new(*ip, service.port), |host| {
                host.from = From::Service;
                host.rank = 1 + u32::from(service.priority);
                host.weight = service.weight;
            });
        }
    }
    if services.is_empty() {
        for ip in &standing {
            add(&mut hosts, &asked, SocketAddr::new(*ip, PORT), |host| host.rank = 1);
        }
    }
    hosts
}

fn add(hosts: &mut Vec<Host>, asked: &Asked<'_>, at: SocketAddr, fill: impl FnOnce(&mut Host)) {
    let known = hosts.iter().position(|host| host.at == at);
    if hosts.len() >= MOST_HOSTS && known.is_none() {
        return;
    }
    let mut host = Host {
        at,
        from: From::Address,
        id: HostId(0),
        key: None,
        expires: None,
        until: None,
        rank: 0,
        weight: 0,
        ignored: unfit(at, asked.own),
    };
    fill(&mut host);
    match known {
        // A record that was written anew while the old one was still kept somewhere: the later one counts.
        Some(index) if host.ignored.is_none() && later(&host, &hosts[index]) => hosts[index] = host,
        Some(_) => {}
        None => hosts.push(host),
    }
}

fn later(new: &Host, old: &Host) -> bool {
    old.ignored.is_some() || (new.from == old.from && new.expires.unwrap_or(u64::MAX) > old.expires.unwrap_or(u64::MAX))
}

/// Why no flow may go to an address, whoever names it.
fn unfit(at: SocketAddr, own: SocketAddr) -> Option<&'static str> {
    let ip = at.ip();
    let local = match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    if at == own {
        Some(THIS_HOST)
    } else if ip.is_ipv4() != own.is_ipv4() {
        Some("it is of the other IP version than the layer")
    } else if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) || at.port() == 0 {
        Some("it is not the address of one host")
    } else if local || (ip.is_loopback() && !own.ip().is_loopback()) {
        Some("it means another host on every host")
    } else {
        None
    }
}

/// Whether some record is by a later version of Flowring, for the error's sake.
pub fn is_of_later_version(records: &Records) -> bool {
    records.texts.iter().any(|strings| Claim::decode(strings) == Err(ClaimError::Version))
}

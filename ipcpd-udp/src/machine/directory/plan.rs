//! What an update changes in the zone (RFC 2136), decided from what stands there now.
//!
//! The update requires that the name's TXT records are still those that were read (§2.4.2, §2.4.3), so two hosts that
//! change one name at once do not undo each other: the second reads again. Records are deleted one by one with their
//! exact data (§2.5.4): what is not known stays.

use std::net::{IpAddr, SocketAddr};

use proto::shim::PORT;
use proto::{HostId, Name};

use super::claim::{Claim, Key};
use super::fingerprint::Fingerprint;

/// TXT records at a name that an update deals with.
pub const MOST_TEXTS: usize = 128;

/// What stands at a name in its primary server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// TXT records, each with its strings.
    pub texts: Vec<Vec<Vec<u8>>>,
    /// A and AAAA records.
    pub addresses: Vec<IpAddr>,
    /// Ports of SRV records whose target is the name itself, with priority and weight 0.
    pub ports: Vec<u16>,
}

/// This host's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The name.
    pub name: Name,
    /// This host.
    pub host: HostId,
    /// Its shim.
    pub at: SocketAddr,
    /// Its key.
    pub key: Option<Fingerprint>,
    /// The record is void after so many seconds.
    pub lifetime: u32,
    /// Others may keep it so many seconds.
    pub ttl: u32,
}

/// What is wanted of the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// This host's records stand there, fresh.
    Publish,
    /// They do not.
    Withdraw,
}

/// An update's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// TXT records that must be there, all of them; none: there must be none.
    pub required: Vec<Vec<Vec<u8>>>,
    /// TXT records that go.
    pub texts_out: Vec<Vec<Vec<u8>>>,
    /// The TXT record that comes.
    pub text_in: Option<Vec<String>>,
    /// Address records that go.
    pub addresses_out: Vec<IpAddr>,
    /// The address record that comes.
    pub address_in: Option<IpAddr>,
    /// SRV records that go, by port.
    pub ports_out: Vec<u16>,
    /// The SRV record that comes.
    pub port_in: Option<u16>,
}

/// The update that makes the zone say what it should at `wall`, seconds since 1970; `None`: it says so already.
pub fn plan(aim: Aim, own: &Own, standing: &Standing, wall: u64) -> Option<Update> {
    let claims: Vec<(&Vec<Vec<u8>>, Claim)> =
        standing.texts.iter().filter_map(|strings| Some((strings, Claim::decode(strings).ok()?))).collect();
    let ours = |claim: &Claim| claim.host == own.host && claim.at == own.at && claim.name.as_ref() == Some(&own.name);
    let live: Vec<&Claim> =
        claims.iter().map(|(_, claim)| claim).filter(|claim| !ours(claim) && claim.is_live(wall)).collect();
    let publish = aim == Aim::Publish;
    let needed_ip = |ip: IpAddr| live.iter().any(|claim| claim.at.ip() == ip) || (publish && own.at.ip() == ip);
    let needed_port =
        |port: u16| live.iter().any(|claim| claim.at.port() == port) || (publish && own.at.port() == port);

    let mut update = Update { required: standing.texts.clone(), ..Update::default() };
    for (strings, claim) in claims.iter().filter(|(_, claim)| ours(claim) || !claim.is_live(wall)) {
        let (ip, port) = (claim.at.ip(), claim.at.port());
        let address_stands = standing.addresses.contains(&ip) && !claim.kept && !needed_ip(ip);
        if address_stands && !update.addresses_out.contains(&ip) {
            update.addresses_out.push(ip);
        }
        if port != PORT && standing.ports.contains(&port) && !needed_port(port) && !update.ports_out.contains(&port) {
            update.ports_out.push(port);
        }
        // A void record goes a little after its address: where the address is still kept without it, it would look like
        // an administrator's, which never ends.
        let over = claim.expires.is_some_and(|expires| expires.saturating_add(own.ttl.into()) <= wall);
        if ours(claim) || (over && !address_stands) {
            update.texts_out.push((*strings).clone());
        }
    }
    if publish {
        let before = claims.iter().find(|(_, claim)| ours(claim)).map(|(_, claim)| claim.kept);
        let ip = own.at.ip();
        let spoken_for = claims.iter().any(|(_, claim)| claim.at.ip() == ip && !claim.kept);
        let kept = before.unwrap_or(standing.addresses.contains(&ip) && !spoken_for);
        let claim = Claim {
            host: own.host,
            name: Some(own.name.clone()),
            at: own.at,
            expires: Some(wall.saturating_add(own.lifetime.into())),
            kept,
            key: own.key.map_or(Key::Unsaid, Key::Is),
        };
        update.text_in = Some(claim.encode());
        update.address_in = (!kept).then_some(ip);
        update.port_in = Some(own.at.port()).filter(|port| *port != PORT);
    }
    let nothing = update.text_in.is_none()
        && update.texts_out.is_empty()
        && update.addresses_out.is_empty()
        && update.ports_out.is_empty();
    (!nothing).then_some(update)
}

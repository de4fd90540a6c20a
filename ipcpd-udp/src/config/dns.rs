//! The DNS part of a bootstrap, checked.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use proto::v1::{self, Failure};

use super::invalid;
use crate::machine::directory;
use crate::machine::directory::domain::Zone;

const LIFETIME: u32 = 900;
const TTL: u32 = 60;
/// A name server is asked here unless something else is said.
const PORT: u16 = 53;
const MOST_SERVERS: usize = 8;

/// What the command line says about DNS.
#[derive(Clone, Debug, Default, Args)]
pub struct DnsArgs {
    /// Look names up in this DNS zone, and register them there if there is a key.
    #[arg(long, requires = "layer", value_name = "ZONE")]
    pub dns_zone: Option<String>,
    /// Name server. May be given often; default: those of the system, for updates the zone's primary.
    #[arg(long = "dns-server", requires = "dns_zone", value_name = "ADDRESS[:PORT]")]
    pub dns_servers: Vec<String>,
    /// File with the TSIG key that may update the zone, as tsig-keygen writes it.
    #[arg(long, requires = "dns_zone", value_name = "FILE")]
    pub dns_key: Option<PathBuf>,
    /// A record that is not refreshed is void after so many seconds; it is refreshed three times as often.
    /// Default: 900.
    #[arg(long, requires = "dns_zone", value_name = "SECONDS")]
    pub dns_lifetime: Option<u32>,
    /// Other name servers may keep a record so many seconds. Default: 60.
    #[arg(long, requires = "dns_zone", value_name = "SECONDS")]
    pub dns_ttl: Option<u32>,
}

/// How a layer uses DNS.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Names are looked up and registered here.
    pub zone: Zone,
    /// Name servers; none: those of the system.
    pub servers: Vec<SocketAddr>,
    /// The key's file; none: nothing is registered.
    pub key_file: Option<PathBuf>,
    /// Seconds.
    pub lifetime: u32,
    /// Seconds.
    pub ttl: u32,
}

impl DnsArgs {
    /// Adds itself to what is said.
    pub fn say(&self, said: &mut v1::UdpConfig) {
        let Some(zone) = &self.dns_zone else { return };
        said.dns_zone.clone_from(zone);
        said.dns_servers.clone_from(&self.dns_servers);
        // irmd writes it down, and the next IPCP may run in another folder.
        let absolute = |path| std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        said.dns_key_file = self.dns_key.as_ref().map(|path| absolute(path).display().to_string()).unwrap_or_default();
        (said.dns_lifetime_s, said.dns_ttl_s) = (self.dns_lifetime.unwrap_or(0), self.dns_ttl.unwrap_or(0));
    }
}

impl Dns {
    /// Checks what was said; none without a zone.
    pub fn new(said: &v1::UdpConfig) -> Result<Option<Self>, Failure> {
        if said.dns_zone.is_empty() {
            let nothing = said.dns_servers.is_empty() && said.dns_key_file.is_empty();
            let text = "DNS servers or a key are given without a zone; add --dns-zone";
            return if nothing { Ok(None) } else { Err(invalid(text.to_owned())) };
        }
        let zone = Zone::new(&said.dns_zone).map_err(invalid)?;
        if said.dns_servers.len() > MOST_SERVERS {
            return Err(invalid(format!(
                "{} DNS servers are too many; give {MOST_SERVERS} at most",
                said.dns_servers.len()
            )));
        }
        let servers = said.dns_servers.iter().map(|text| server(text)).collect::<Result<Vec<_>, _>>()?;
        let or = |said, default| if said == 0 { default } else { said };
        let lifetime = or(said.dns_lifetime_s, LIFETIME);
        let ttl = or(said.dns_ttl_s, TTL.min(lifetime / 3).max(1));
        if !(3..=7 * 86_400).contains(&lifetime) || ttl > lifetime {
            let text = format!(
                "a lifetime of {lifetime} s with a TTL of {ttl} s makes no sense; give a lifetime of 3 s to a week, and no longer a TTL"
            );
            return Err(invalid(text));
        }
        let key_file = (!said.dns_key_file.is_empty()).then(|| PathBuf::from(&said.dns_key_file));
        Ok(Some(Self { zone, servers, key_file, lifetime, ttl }))
    }

    /// What the machine needs of it.
    pub fn machine(&self) -> directory::Dns {
        let Self { zone, key_file, lifetime, ttl, .. } = self;
        directory::Dns { zone: zone.clone(), writes: key_file.is_some(), lifetime: *lifetime, ttl: *ttl }
    }
}

fn server(text: &str) -> Result<SocketAddr, Failure> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = text.parse().or_else(|_| bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT)));
    let usable = address.ok().filter(|at| at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast());
    usable.ok_or_else(|| {
        invalid(format!("{text:?} is no address of a name server; write 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_enough() {
        assert_eq!(Dns::new(&v1::UdpConfig::default()).unwrap(), None);
        let said = v1::UdpConfig { dns_zone: "Flows.Test.".into(), ..Default::default() };
        let dns = Dns::new(&said).unwrap().unwrap();
        assert_eq!((dns.zone.as_str(), dns.lifetime, dns.ttl, dns.servers.len()), ("flows.test", 900, 60, 0));
        assert!(!dns.machine().writes);
        let servers = ["10.0.0.53", "10.0.0.53:5353", "fd00::53", "[fd00::53]", "[fd00::53]:54"].map(str::to_owned);
        let said = v1::UdpConfig { dns_servers: servers.into(), dns_key_file: "/k".into(), ..said };
        let dns = Dns::new(&said).unwrap().unwrap();
        let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.53:53", "10.0.0.53:5353", "[fd00::53]:53", "[fd00::53]:53", "[fd00::53]:54"]);
        assert!(dns.machine().writes);
    }

    #[test]
    fn nonsense_is_refused() {
        let good = v1::UdpConfig { dns_zone: "flows.test".into(), ..Default::default() };
        for bad in [
            v1::UdpConfig { dns_zone: String::new(), dns_key_file: "/k".into(), ..good.clone() },
            v1::UdpConfig { dns_zone: "two words".into(), ..good.clone() },
            v1::UdpConfig { dns_servers: vec!["ns.example".into()], ..good.clone() },
            v1::UdpConfig { dns_servers: vec!["0.0.0.0".into()], ..good.clone() },
            v1::UdpConfig { dns_servers: vec!["10.0.0.1:0".into()], ..good.clone() },
            v1::UdpConfig { dns_servers: vec!["10.0.0.1".into(); 9], ..good.clone() },
            v1::UdpConfig { dns_lifetime_s: 2, ..good.clone() },
            v1::UdpConfig { dns_lifetime_s: 30, dns_ttl_s: 31, ..good.clone() },
        ] {
            assert!(Dns::new(&bad).is_err(), "{bad:?}");
        }
        let short = v1::UdpConfig { dns_lifetime_s: 9, ..good };
        assert_eq!(Dns::new(&short).unwrap().unwrap().ttl, 3);
    }
}

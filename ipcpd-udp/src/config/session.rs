//! The part of a bootstrap that says through which rendezvous the layer's hosts meet, checked.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use proto::Name;
use proto::rendezvous::PORT;
use proto::v1::{self, Failure};

use super::invalid;
use crate::machine::rendezvous::predict::Level;

/// What the command line says about a rendezvous.
#[derive(Clone, Debug, Default, Args)]
pub struct SessionArgs {
    /// Rendezvous that the layer's hosts meet at, through NATs.
    #[arg(long, requires_all = ["layer", "session", "session_key"], value_name = "HOST[:PORT]")]
    pub via: Option<String>,
    /// Session there: its members are the layer's hosts.
    #[arg(long, requires = "via", value_name = "NAME")]
    pub session: Option<String>,
    /// File with the session's key, any bytes; not readable by every user.
    #[arg(long, requires = "via", value_name = "FILE")]
    pub session_key: Option<PathBuf>,
    /// --ip is the address that the rendezvous is reached from: go along when that changes.
    #[arg(long, requires = "via")]
    pub follow: bool,
    /// What is done where hellos to known addresses come to nothing.
    #[arg(long, requires = "via", value_name = "HOW")]
    pub punch: Option<Punch>,
    /// Ask this host's router to map ports, for flows that find no other path: PCP, NAT-PMP, UPnP.
    #[arg(long, requires = "via")]
    pub map_ports: bool,
}

/// What a member does where a NAT gives each mapping another port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Punch {
    /// Nothing.
    Plain,
    /// Says hello to the ports that the other's NAT would give next.
    Predict,
    /// Without a relay also searches, by many sockets or ports.
    Search,
}

/// A rendezvous and a session there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// A host name or an address, and a port, as resolvers take it.
    pub server: String,
    /// The session.
    pub session: String,
    /// Its key's file.
    pub key_file: PathBuf,
    /// The layer's address is the one that the server is reached from.
    pub follow: bool,
    /// Beyond hellos to known addresses.
    pub punch: Level,
    /// This host's router is asked to map ports.
    pub map_ports: bool,
}

impl SessionArgs {
    /// Adds itself to what is said.
    pub fn say(&self, said: &mut v1::UdpConfig) {
        let Some(via) = &self.via else { return };
        said.rendezvous.clone_from(via);
        (said.follow, said.map_ports) = (self.follow, self.map_ports);
        let punch = match self.punch {
            None => v1::Punch::Unspecified,
            Some(Punch::Plain) => v1::Punch::Plain,
            Some(Punch::Predict) => v1::Punch::Predict,
            Some(Punch::Search) => v1::Punch::Search,
        };
        said.set_punch(punch);
        said.session = self.session.clone().unwrap_or_default();
        // irmd writes it down, and the next IPCP may run in another folder.
        let absolute = |path| std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        said.session_key_file =
            self.session_key.as_ref().map(|path| absolute(path).display().to_string()).unwrap_or_default();
    }
}

impl Via {
    /// Checks what was said; none without a rendezvous.
    pub fn new(said: &v1::UdpConfig) -> Result<Option<Self>, Failure> {
        if said.rendezvous.is_empty() {
            let told = said.follow || said.map_ports || said.punch != 0;
            let nothing = said.session.is_empty() && said.session_key_file.is_empty() && !told;
            let text =
                "a session, its key, how to punch or whether to map ports is given without a rendezvous; add --via";
            return if nothing { Ok(None) } else { Err(invalid(text.to_owned())) };
        }
        let server = server(&said.rendezvous).ok_or_else(|| {
            invalid(format!(
                "{:?} is no rendezvous; write rdv.example, rdv.example:3360 or [fd00::9]:3360",
                said.rendezvous
            ))
        })?;
        Name::new(&said.session)
            .map_err(|error| invalid(format!("{:?} is no session: {error}; give --session", said.session)))?;
        if said.session_key_file.is_empty() {
            return Err(invalid("a session needs its key; give its file with --key-file".to_owned()));
        }
        if said.follow && said.sp_listen {
            let text =
                "flows on the listen port cannot follow another address; leave out --follow or --sp-range listen";
            return Err(invalid(text.to_owned()));
        }
        let (session, key_file) = (said.session.clone(), PathBuf::from(&said.session_key_file));
        let punch = match said.punch() {
            v1::Punch::Plain => Level::Plain,
            v1::Punch::Unspecified | v1::Punch::Predict => Level::Predict,
            v1::Punch::Search => Level::Search,
        };
        Ok(Some(Self { server, session, key_file, follow: said.follow, punch, map_ports: said.map_ports }))
    }
}

/// With its port.
fn server(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(std::net::SocketAddr::new(ip, PORT).to_string());
    }
    if let Ok(at) = text.parse::<std::net::SocketAddr>() {
        return (at.port() != 0).then(|| at.to_string());
    }
    let (host, port) =
        text.split_once(':').map_or(Some((text, PORT)), |(host, port)| Some((host, port.parse().ok()?)))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let fits = (1..=253).contains(&host.len()) && host.chars().all(plain) && port != 0;
    fits.then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(via: &str) -> v1::UdpConfig {
        let session = "darkreign".to_owned();
        v1::UdpConfig { rendezvous: via.into(), session, session_key_file: "/k".into(), ..Default::default() }
    }

    #[test]
    fn servers_are_hosts_with_ports() {
        let table = [
            ("rdv.example", Some("rdv.example:3360")),
            ("rdv.example:3400", Some("rdv.example:3400")),
            ("10.0.0.9", Some("10.0.0.9:3360")),
            ("10.0.0.9:1", Some("10.0.0.9:1")),
            ("fd00::9", Some("[fd00::9]:3360")),
            ("[fd00::9]:3400", Some("[fd00::9]:3400")),
            ("rdv.example:", None),
            ("rdv.example:0", None),
            ("10.0.0.9:0", None),
            ("two words", None),
            ("a:b:c", None),
        ];
        for (text, want) in table {
            let got = Via::new(&said(text)).ok().flatten().map(|via| via.server);
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn all_three_or_none() {
        assert_eq!(Via::new(&v1::UdpConfig::default()).unwrap(), None);
        let good = said("rdv.example");
        for bad in [
            v1::UdpConfig { rendezvous: String::new(), ..good.clone() },
            v1::UdpConfig { session: String::new(), ..good.clone() },
            v1::UdpConfig { session: "two words".into(), ..good.clone() },
            v1::UdpConfig { follow: true, sp_listen: true, ..good.clone() },
            v1::UdpConfig { rendezvous: String::new(), punch: 3, ..v1::UdpConfig::default() },
            v1::UdpConfig { session_key_file: String::new(), ..good },
        ] {
            assert!(Via::new(&bad).is_err(), "{bad:?}");
        }
    }
}

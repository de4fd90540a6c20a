//! `irmd.toml`, and `runtime.toml` of the same format: see docs/irmd.md.
//!
//! Text in, values out: reading and writing files is [`crate::io`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proto::Name;
use proto::v1::{EchoMoment, StaticHost, UdpConfig};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

mod lookup;
mod options;
mod punch;
mod rules;
mod trust;

pub use options::{EVENTS, Options, metrics_address};
pub use punch::Punch;
pub use rules::{Account, Pattern, PatternEntry, Range, Rules, Who};
pub use trust::{Cas, Identity, MOST_TRUST, ReadCas, TrustEntry};

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// Limits and defaults.
    #[serde(skip_serializing_if = "Options::is_default")]
    pub options: Options,
    /// IPCPs, in the order in which their layers are asked.
    #[serde(rename = "ipcp", skip_serializing_if = "Vec::is_empty")]
    pub ipcps: Vec<Ipcp>,
    /// Names.
    #[serde(rename = "name", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameEntry>,
    /// Rules of all names that a pattern matches.
    #[serde(rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PatternEntry>,
    /// Who is trusted with names elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<TrustEntry>,
}

/// An IPCP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ipcp {
    /// Its name: letters, digits, `-` and `_`, at most 64.
    #[serde(deserialize_with = "ipcp_name")]
    pub name: String,
    /// Its type.
    #[serde(default, rename = "type")]
    pub kind: IpcpKind,
    /// The layer it joins; without, it waits for `irm ipcp bootstrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Its address of this host; needed with `layer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Its UDP port; 3359 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Ports of accepted flows, or "listen"; the system's range unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sp_range: Option<SpRange>,
    /// When a classic caller gets its echo.
    #[serde(default, skip_serializing_if = "Echo::is_default")]
    pub echo: Echo,
    /// Names are looked up, and registered, in this DNS zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_zone: Option<String>,
    /// Name servers; the system's unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<String>,
    /// File of the key that may update the zone, from /.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_key: Option<String>,
    /// Seconds after which a record that is not refreshed is void.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_lifetime: Option<u32>,
    /// Seconds that others may keep a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_ttl: Option<u32>,
    /// Rendezvous that the layer's hosts meet at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendezvous: Option<String>,
    /// The session there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// File of the session's key, from /.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// Its address is the one that the rendezvous is reached from, when that changes, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// What it does where hellos to known addresses come to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub punch: Option<Punch>,
    /// Its host's router is asked to map ports.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub map_ports: bool,
    /// irmd starts its process; else somebody else does, such as a service manager.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub start: bool,
    /// Started again when it ends.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub restart: bool,
    /// The static directory: `name = "address[:port]"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "hosts")]
    pub hosts: BTreeMap<String, String>,
}

/// The types of IPCP there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpcpKind {
    /// The shim over UDP.
    #[default]
    Udp,
}

/// When a classic caller gets its echo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Echo {
    /// Once the program accepted.
    #[default]
    OnAccept,
    /// At once, as in 2016.
    OnArrival,
}

/// Ports of accepted flows: a range, `"40000-41000"`, or `"listen"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SpRange {
    /// From the first to the last port.
    Ports(u16, u16),
    /// All of them on the listen port.
    Listen,
}

impl SpRange {
    /// As an IPCP is told: first port, last port, whether on the listen port.
    fn said(range: Option<Self>) -> (u32, u32, bool) {
        match range {
            None => (0, 0, false),
            Some(Self::Ports(first, last)) => (first.into(), last.into(), false),
            Some(Self::Listen) => (0, 0, true),
        }
    }
}

/// A name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NameEntry {
    /// The name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Who takes the next flow.
    #[serde(default)]
    pub policy: Policy,
    /// The layers it is registered in; `"*"` is every layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// The user it belongs to; irmd's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Account>,
    /// Who may serve it: see [`Rules`], as for the next four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serve: Option<Vec<Who>>,
    /// Which users may allocate to it within this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_local: Option<Vec<Who>>,
    /// Which hosts may allocate to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_remote: Option<Vec<Range>>,
    /// Which may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_remote: Option<Vec<Range>>,
    /// Who may, of the hosts that show who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities: Option<Vec<Identity>>,
    /// Programs bound to it.
    #[serde(default, rename = "program", skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Program>,
}

/// Who takes the next flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The processes take turns.
    #[default]
    RoundRobin,
    /// The first in order of binding that accepts.
    Spill,
}

/// A program bound to a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Program {
    /// Absolute path.
    #[serde(deserialize_with = "absolute")]
    pub path: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Started when a flow arrives and nobody accepts.
    #[serde(default)]
    pub auto: bool,
    /// The user it runs as; irmd's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Account>,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

impl Echo {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<String> for SpRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "listen" {
            return Ok(Self::Listen);
        }
        let parse = || {
            let (first, last) = text.split_once('-')?;
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        };
        parse()
            .filter(|(first, last)| *first > 0 && first <= last)
            .map(|(first, last)| Self::Ports(first, last))
            .ok_or_else(|| format!("{text:?} is no range of ports; write \"40000-41000\", or \"listen\""))
    }
}

impl From<SpRange> for String {
    fn from(range: SpRange) -> Self {
        match range {
            SpRange::Ports(first, last) => format!("{first}-{last}"),
            SpRange::Listen => "listen".to_owned(),
        }
    }
}

fn checked<'de, D: Deserializer<'de>>(from: D, check: fn(&str) -> Result<(), String>) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    check(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn ipcp_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked(from, check_ipcp_name)
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked(from, |text| Name::new(text).map(|_| ()).map_err(|e| e.to_string()))
}

fn absolute<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked(from, check_program_path)
}

fn hosts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let hosts = BTreeMap::<String, String>::deserialize(from)?;
    for (name, address) in &hosts {
        check_host(name, address).map_err(D::Error::custom)?;
    }
    Ok(hosts)
}

/// Whether a program's path can be used.
pub fn check_program_path(path: &str) -> Result<(), String> {
    // It is told in the log: a line break would make lines that irmd never said.
    if path.starts_with('/') && !path.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("{path:?} is no absolute path; write the program's path from /"))
}

/// Whether an IPCP's name can be: it is part of its sockets' names.
pub fn check_ipcp_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&name.len()) && name.chars().all(good) && !name.starts_with('-') {
        return Ok(());
    }
    Err(format!("{name:?} cannot name an IPCP; take 1 to 64 letters, digits, - and _"))
}

/// Whether a layer's name can be.
pub fn check_layer(layer: &str) -> Result<(), String> {
    match Name::new(layer) {
        Ok(_) if layer != "local" && layer != "*" => Ok(()),
        Ok(_) => Err(format!("{layer:?} cannot name a layer: the word is taken; choose another")),
        Err(e) => Err(format!("{layer:?} cannot name a layer: {e}")),
    }
}

/// Whether a row of the static directory makes sense.
pub fn check_host(name: &str, address: &str) -> Result<(), String> {
    Name::new(name).map_err(|e| format!("{name:?} is no name: {e}"))?;
    if address.parse::<IpAddr>().is_err() && address.parse::<SocketAddr>().is_err() {
        return Err(format!(
            "{address:?}, the host of {name}, is no address; write 10.0.0.2, 10.0.0.2:3400 or [fd00::2]:3400"
        ));
    }
    Ok(())
}

impl Config {
    /// Reads a file's text. The error names line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        config.check()?;
        Ok(config)
    }

    /// What no single key can show.
    fn check(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for ipcp in &self.ipcps {
            ipcp.check()?;
            if !seen.insert(&ipcp.name) {
                return Err(format!("[[ipcp]] {} is declared twice; give each its own name", ipcp.name));
            }
        }
        let mut seen = BTreeSet::new();
        for entry in &self.names {
            if !seen.insert(&entry.name) {
                return Err(format!("[[name]] {} is declared twice; join the two", entry.name));
            }
            entry.rules().check().map_err(|e| format!("[[name]] {}: {e}", entry.name))?;
            for layer in entry.layers.iter().filter(|layer| *layer != "*") {
                check_layer(layer).map_err(|e| format!("[[name]] {}: {e}", entry.name))?;
            }
        }
        self.check_rules()?;
        self.check_trust()?;
        if self.options.events > options::MOST_EVENTS {
            return Err(format!("[options]: events is 0 to {}", options::MOST_EVENTS));
        }
        if !(1..=60_000).contains(&self.options.timeout_ms) || !(1..=8_192).contains(&self.options.backlog) {
            return Err("[options]: timeout-ms is 1 to 60000 and backlog 1 to 8192".into());
        }
        Ok(())
    }

    /// The text that [`Self::parse`] reads back.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|e| e.to_string())
    }
}

impl Ipcp {
    /// What DNS takes, its IPCP checks; here only what would be lost or read in the wrong folder.
    fn check_dns(&self) -> Result<(), String> {
        let name = &self.name;
        let told =
            !self.dns_servers.is_empty() || self.dns_key.is_some() || self.dns_lifetime.or(self.dns_ttl).is_some();
        if told && self.dns_zone.is_none() {
            return Err(format!("[[ipcp]] {name} has DNS options and no zone; add dns-zone = \"…\""));
        }
        match &self.dns_key {
            Some(path) if !path.starts_with('/') || path.contains('\0') => {
                Err(format!("[[ipcp]] {name}: the key file {path:?} has no absolute path; write it from /"))
            }
            _ => Ok(()),
        }
    }

    /// What a rendezvous takes, its IPCP checks; here only what would be lost or read in the wrong folder.
    fn check_session(&self) -> Result<(), String> {
        let name = &self.name;
        if self.session.is_some() != self.rendezvous.is_some() || self.session_key.is_some() != self.session.is_some() {
            let text = "needs all of rendezvous, session and session-key, or none; add what is missing";
            return Err(format!("[[ipcp]] {name} {text}"));
        }
        if self.punch.is_some() && self.rendezvous.is_none() {
            return Err(format!("[[ipcp]] {name} has punch and no rendezvous to be introduced by; leave it out"));
        }
        if self.follow && self.rendezvous.is_none() {
            return Err(format!("[[ipcp]] {name} has follow and no rendezvous to follow the way to; leave it out"));
        }
        if self.map_ports && self.rendezvous.is_none() {
            return Err(format!(
                "[[ipcp]] {name} has map-ports and no rendezvous, for whose flows alone ports are mapped; leave it out"
            ));
        }
        match &self.session_key {
            Some(path) if !path.starts_with('/') || path.contains('\0') => {
                Err(format!("[[ipcp]] {name}: the key file {path:?} has no absolute path; write it from /"))
            }
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.check_dns()?;
        self.check_session()?;
        let name = &self.name;
        match (&self.layer, self.ip) {
            (Some(layer), Some(_)) => check_layer(layer).map_err(|e| format!("[[ipcp]] {name}: {e}")),
            (Some(_), None) => Err(format!("[[ipcp]] {name} has a layer and no ip; add ip = \"…\"")),
            (None, Some(_)) => Err(format!("[[ipcp]] {name} has an ip and no layer; add layer = \"…\"")),
            (None, None) => Ok(()),
        }
    }

    /// The layer and what to bootstrap with, if it is to be bootstrapped.
    pub fn bootstrap(&self) -> Option<(String, UdpConfig)> {
        let (layer, ip) = (self.layer.clone()?, self.ip?);
        let echo = match self.echo {
            Echo::OnAccept => EchoMoment::OnAccept,
            Echo::OnArrival => EchoMoment::OnArrival,
        };
        let (sp_first, sp_last, sp_listen) = SpRange::said(self.sp_range);
        let hosts =
            self.hosts.iter().map(|(name, address)| StaticHost { name: name.clone(), address: address.clone() });
        Some((
            layer,
            UdpConfig {
                ip: ip.to_string(),
                port: self.port.unwrap_or(0).into(),
                hosts: hosts.collect(),
                sp_first,
                sp_last,
                sp_listen,
                echo: echo.into(),
                dns_zone: self.dns_zone.clone().unwrap_or_default(),
                dns_servers: self.dns_servers.clone(),
                dns_key_file: self.dns_key.clone().unwrap_or_default(),
                dns_lifetime_s: self.dns_lifetime.unwrap_or(0),
                dns_ttl_s: self.dns_ttl.unwrap_or(0),
                rendezvous: self.rendezvous.clone().unwrap_or_default(),
                session: self.session.clone().unwrap_or_default(),
                session_key_file: self.session_key.clone().unwrap_or_default(),
                follow: self.follow,
                punch: Punch::said(self.punch).into(),
                map_ports: self.map_ports,
            },
        ))
    }

    /// An entry from what an IPCP runs with; fails where a message holds what no file could.
    pub fn from_parts(name: &str, restart: bool, bootstrap: Option<(&str, &UdpConfig)>) -> Result<Self, String> {
        check_ipcp_name(name)?;
        let mut entry = Self {
            name: name.to_owned(),
            kind: IpcpKind::Udp,
            layer: None,
            ip: None,
            port: None,
            sp_range: None,
            echo: Echo::OnAccept,
            dns_zone: None,
            dns_servers: Vec::new(),
            dns_key: None,
            dns_lifetime: None,
            dns_ttl: None,
            rendezvous: None,
            session: None,
            session_key: None,
            follow: false,
            punch: None,
            map_ports: false,
            start: true,
            restart,
            hosts: BTreeMap::new(),
        };
        let Some((layer, udp)) = bootstrap else { return Ok(entry) };
        check_layer(layer)?;
        entry.layer = Some(layer.to_owned());
        let ip = udp.ip.parse().map_err(|_| format!("{:?} is no address; write 10.0.0.1 or fd00::1", udp.ip))?;
        entry.ip = Some(ip);
        let port = |port: u32| u16::try_from(port).map_err(|_| format!("{port} is no UDP port; take 1 to 65535"));
        entry.port = Some(port(udp.port)?).filter(|port| *port != 0);
        if udp.sp_listen {
            entry.sp_range = Some(SpRange::Listen);
        } else if udp.sp_first != 0 || udp.sp_last != 0 {
            entry.sp_range = Some(format!("{}-{}", port(udp.sp_first)?, port(udp.sp_last)?).try_into()?);
        }
        if udp.echo() == EchoMoment::OnArrival {
            entry.echo = Echo::OnArrival;
        }
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let seconds = |seconds: u32| Some(seconds).filter(|seconds| *seconds != 0);
        (entry.dns_zone, entry.dns_key) = (text(&udp.dns_zone), text(&udp.dns_key_file));
        (entry.dns_lifetime, entry.dns_ttl) = (seconds(udp.dns_lifetime_s), seconds(udp.dns_ttl_s));
        entry.dns_servers.clone_from(&udp.dns_servers);
        entry.check_dns()?;
        (entry.rendezvous, entry.session) = (text(&udp.rendezvous), text(&udp.session));
        (entry.session_key, entry.follow) = (text(&udp.session_key_file), udp.follow);
        entry.punch = Punch::of(udp.punch());
        entry.map_ports = udp.map_ports;
        entry.check_session()?;
        for host in &udp.hosts {
            check_host(&host.name, &host.address)?;
            entry.hosts.insert(host.name.clone(), host.address.clone());
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests;

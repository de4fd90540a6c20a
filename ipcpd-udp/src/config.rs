//! The command line, and what a bootstrap says.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use proto::shim::PORT;
use proto::v1::{self, Failure, FailureKind};
use proto::{Name, v1::EchoMoment};

use crate::machine::Echo;
use crate::machine::directory::fingerprint::Fingerprint;

pub mod dns;
pub mod session;

use dns::{Dns, DnsArgs};
use session::{SessionArgs, Via};

/// The shim IPC process over UDP: one layer over IP, on one address of this host.
///
/// irmd starts it and bootstraps it. Started by hand or by systemd with --layer and --ip, it bootstraps itself and
/// attaches to irmd whenever one runs.
#[derive(Clone, Debug, Parser)]
#[command(version, name = "ipcpd-udp")]
pub struct Options {
    /// Name of this IPCP, as in `irm ipcp list`.
    #[arg(long)]
    pub name: String,
    /// Folder of this host's sockets; else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring.
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Folder of what is kept over restarts: host id, key of the tickets. Default: `state` in the run directory.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Layer to serve at once, without waiting for irmd.
    #[arg(long, requires = "ip")]
    pub layer: Option<String>,
    /// Address of this host, IPv4 or IPv6.
    #[arg(long, requires = "layer")]
    pub ip: Option<IpAddr>,
    /// Listen port.
    #[arg(long, requires = "layer", default_value_t = PORT)]
    pub port: u16,
    /// Where a name is: NAME=ADDRESS or NAME=ADDRESS:PORT. May be given often.
    #[arg(long = "host", requires = "layer", value_name = "NAME=ADDRESS", value_parser = parse_host)]
    pub hosts: Vec<v1::StaticHost>,
    /// Ports for flows that arrive, "40000-41000", or "listen": all on the listen port, for programs of this user.
    /// Default: the system's range.
    #[arg(long, requires = "layer", value_name = "FIRST-LAST|listen", value_parser = parse_sp)]
    pub sp_range: Option<Sp>,
    /// When a classic caller gets its echo: once the program accepted, or at once as in 2016.
    #[arg(long, requires = "layer", value_enum, default_value_t = EchoArg::OnAccept)]
    pub echo: EchoArg,
    /// Names beyond this host.
    #[command(flatten)]
    pub dns: DnsArgs,
    /// The session of a rendezvous that the layer's hosts meet in.
    #[command(flatten)]
    pub session: SessionArgs,
    /// What to log, as in "info" or "ipcpd_udp=debug"; `irm log` changes it.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "FLOWRING_LOG")]
    pub log: String,
    /// How lines of the log look.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = logs::Format::Auto, env = "FLOWRING_LOG_FORMAT")]
    pub log_format: logs::Format,
}

/// `--echo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EchoArg {
    /// Once the program accepted.
    OnAccept,
    /// At once.
    OnArrival,
}

fn parse_host(text: &str) -> Result<v1::StaticHost, String> {
    let (name, address) = text.split_once('=').ok_or("a host is NAME=ADDRESS or NAME=ADDRESS:PORT")?;
    let host = v1::StaticHost { name: name.to_owned(), address: address.to_owned() };
    static_host(&host).map_err(|failure| failure.message)?;
    Ok(host)
}

/// `--sp-range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sp {
    /// Ports of this range, both ends included.
    Range(u16, u16),
    /// The listen port, for all of them.
    Listen,
}

fn parse_sp(text: &str) -> Result<Sp, String> {
    if text == "listen" {
        return Ok(Sp::Listen);
    }
    let (first, last) = parse_range(text).map_err(|error| format!("{error}, or listen"))?;
    Ok(Sp::Range(first, last))
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let parse = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    text.split_once('-')
        .and_then(|(first, last)| Some((parse(first)?, parse(last)?)))
        .filter(|(first, last)| first <= last)
        .ok_or_else(|| format!("{text:?} is no range of ports; write FIRST-LAST, as in 40000-41000"))
}

impl Options {
    /// What the command line bootstraps, if it does.
    pub fn bootstrap(&self) -> Result<Option<Bootstrap>, Failure> {
        let (Some(layer), Some(ip)) = (&self.layer, self.ip) else { return Ok(None) };
        let (sp_first, sp_last) = match self.sp_range {
            Some(Sp::Range(first, last)) => (first, last),
            Some(Sp::Listen) | None => (0, 0),
        };
        let echo = match self.echo {
            EchoArg::OnAccept => EchoMoment::OnAccept,
            EchoArg::OnArrival => EchoMoment::OnArrival,
        };
        let mut udp = v1::UdpConfig {
            ip: ip.to_string(),
            port: self.port.into(),
            hosts: self.hosts.clone(),
            sp_first: sp_first.into(),
            sp_last: sp_last.into(),
            sp_listen: self.sp_range == Some(Sp::Listen),
            echo: echo.into(),
            ..v1::UdpConfig::default()
        };
        self.dns.say(&mut udp);
        self.session.say(&mut udp);
        Bootstrap::new(layer, udp).map(Some)
    }
}

/// What an IPCP is bootstrapped with, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// The layer's name.
    pub layer: String,
    /// Configured address and listen port.
    pub listen: SocketAddr,
    /// The static directory.
    pub hosts: Vec<(Name, SocketAddr)>,
    /// Ports for flows that arrive; none: the system's range.
    pub sp: Option<Sp>,
    /// When a classic caller gets its echo.
    pub echo: Echo,
    /// Names beyond this host and its table.
    pub dns: Option<Dns>,
    /// The session that the layer's hosts meet in.
    pub via: Option<Via>,
    /// The key of this host, published with its names.
    pub host_key: Option<Fingerprint>,
    /// The same as it is said.
    pub said: v1::UdpConfig,
}

impl Bootstrap {
    /// With the fingerprint of this host's key; empty: none.
    pub fn of_host(mut self, key: &str) -> Result<Self, Failure> {
        let parse = |key: &str| key.parse().map_err(|error| invalid(format!("the host key {key:?} is {error}")));
        self.host_key = (!key.is_empty()).then(|| parse(key)).transpose()?;
        Ok(self)
    }

    /// Checks what was said.
    pub fn new(layer: &str, said: v1::UdpConfig) -> Result<Self, Failure> {
        Name::new(layer).map_err(|error| invalid(format!("{layer:?} is no name of a layer: {error}")))?;
        let ip: IpAddr = said.ip.parse().map_err(|_| {
            invalid(format!("{:?} is no IP address; give the address of this host that the layer is to use", said.ip))
        })?;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(invalid(format!("{ip} is not the address of one host; give one of this host's addresses")));
        }
        let port = match said.port {
            0 => PORT,
            port => u16::try_from(port).map_err(|_| invalid(format!("{port} is no UDP port; give 1 to 65535")))?,
        };
        let sp = match (said.sp_listen, said.sp_first, said.sp_last) {
            (false, 0, 0) => None,
            (true, 0, 0) => Some(Sp::Listen),
            (true, ..) => return Err(invalid("flows are on the listen port or in a range; choose one".to_owned())),
            (false, first, last) => Some(parse_sp(&format!("{first}-{last}")).map_err(invalid)?),
        };
        let echo = match said.echo() {
            EchoMoment::OnArrival => Echo::OnArrival,
            EchoMoment::OnAccept | EchoMoment::Unspecified => Echo::OnAccept,
        };
        let listen = SocketAddr::new(ip, port);
        let hosts = said.hosts.iter().map(static_host).collect::<Result<Vec<_>, _>>()?;
        if let Some((name, shim)) = hosts.iter().find(|(_, shim)| shim.is_ipv4() != listen.is_ipv4()) {
            let text = format!("host {name}={shim} cannot be reached from {ip}: they are of two IP versions");
            return Err(invalid(text));
        }
        let dns = Dns::new(&said)?;
        let via = Via::new(&said)?;
        let said = v1::UdpConfig { port: port.into(), ..said };
        Ok(Self { layer: layer.to_owned(), listen, hosts, sp, echo, dns, via, host_key: None, said })
    }
}

/// A row of the static directory, checked.
pub fn static_host(host: &v1::StaticHost) -> Result<(Name, SocketAddr), Failure> {
    let name = name(&host.name)?;
    let text = host.address.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = text.parse().or_else(|_| bare.parse().map(|ip| SocketAddr::new(ip, PORT))).map_err(|_| {
        invalid(format!("{text:?} is no address for {name}; write 10.0.0.2, 10.0.0.2:3400, fd00::2 or [fd00::2]:3400"))
    })?;
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(invalid(format!("{address} is not the address of one host; correct the row of {name}")));
    }
    Ok((name, address))
}

/// A name, checked.
pub fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| invalid(format!("{text:?} is no name: {error}")))
}

fn invalid(text: String) -> Failure {
    Failure::new(FailureKind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_a_bootstrap() {
        let options = Options::try_parse_from([
            "ipcpd-udp",
            "--name",
            "udp0",
            "--layer",
            "net",
            "--ip",
            "10.0.0.1",
            "--host",
            "echo=10.0.0.2",
            "--host",
            "chat=10.0.0.3:3400",
            "--sp-range",
            "40000-41000",
            "--echo",
            "on-arrival",
        ])
        .unwrap();
        let bootstrap = options.bootstrap().unwrap().unwrap();
        assert_eq!(bootstrap.listen, "10.0.0.1:3359".parse().unwrap());
        assert_eq!(bootstrap.sp, Some(Sp::Range(40_000, 41_000)));
        assert_eq!(bootstrap.echo, Echo::OnArrival);
        let hosts: Vec<_> = bootstrap.hosts.iter().map(|(name, at)| format!("{name}={at}")).collect();
        assert_eq!(hosts, ["echo=10.0.0.2:3359", "chat=10.0.0.3:3400"]);
        // What is said to irmd at attaching makes the same bootstrap again.
        assert_eq!(Bootstrap::new("net", bootstrap.said.clone()).unwrap(), bootstrap);
    }

    #[test]
    fn flows_may_be_on_the_listen_port() {
        let line = ["ipcpd-udp", "--name", "udp0", "--layer", "net", "--ip", "10.0.0.1", "--sp-range"];
        let parse = |sp: &'static str| Options::try_parse_from(line.into_iter().chain([sp]));
        let bootstrap = parse("listen").unwrap().bootstrap().unwrap().unwrap();
        assert_eq!(bootstrap.sp, Some(Sp::Listen));
        assert_eq!(Bootstrap::new("net", bootstrap.said.clone()).unwrap(), bootstrap);
        assert!(parse("Listen").unwrap_err().to_string().contains("or listen"));
    }

    #[test]
    fn without_a_layer_irmd_bootstraps() {
        let options = Options::try_parse_from(["ipcpd-udp", "--name", "udp0"]).unwrap();
        assert_eq!(options.bootstrap().unwrap(), None);
        assert!(Options::try_parse_from(["ipcpd-udp", "--name", "udp0", "--ip", "10.0.0.1"]).is_err());
        assert!(Options::try_parse_from(["ipcpd-udp", "--name", "udp0", "--layer", "net"]).is_err());
    }

    #[test]
    fn addresses_of_hosts() {
        let table = [
            ("10.0.0.2", Some("10.0.0.2:3359")),
            ("10.0.0.2:3400", Some("10.0.0.2:3400")),
            ("fd00::2", Some("[fd00::2]:3359")),
            ("[fd00::2]", Some("[fd00::2]:3359")),
            ("[fd00::2]:3400", Some("[fd00::2]:3400")),
            ("example.org", None),
            ("10.0.0.2:0", None),
            ("0.0.0.0", None),
            ("224.0.0.1", None),
            ("", None),
        ];
        for (text, want) in table {
            let host = v1::StaticHost { name: "echo".into(), address: text.into() };
            let got = static_host(&host).ok().map(|(_, address)| address.to_string());
            assert_eq!(got.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let good = v1::UdpConfig { ip: "10.0.0.1".into(), ..Default::default() };
        assert!(Bootstrap::new("net", good.clone()).is_ok());
        let row = v1::StaticHost { name: "echo".into(), address: "fd00::2".into() };
        for bad in [
            v1::UdpConfig { ip: String::new(), ..good.clone() },
            v1::UdpConfig { ip: "0.0.0.0".into(), ..good.clone() },
            v1::UdpConfig { port: 70_000, ..good.clone() },
            v1::UdpConfig { sp_first: 5, sp_last: 4, ..good.clone() },
            v1::UdpConfig { sp_first: 4, sp_last: 5, sp_listen: true, ..good.clone() },
            v1::UdpConfig { sp_first: 5, sp_last: 70_000, ..good.clone() },
            v1::UdpConfig { hosts: vec![row], ..good.clone() },
        ] {
            assert_eq!(Bootstrap::new("net", bad).unwrap_err().kind(), FailureKind::Invalid);
        }
        assert!(Bootstrap::new("", good).is_err());
    }
}

//! Commands about IPC processes and their static directory.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use proto::v1;

use super::Listing;
use crate::machine::argument::{
    HostEntry, PortRange, host_entry, ip_address, ipcp_name, layer_name, name, name_server, port_range,
};

/// `irm ipcp …`
#[derive(Debug, Subcommand)]
pub enum IpcpCommand {
    /// Start an IPCP; it carries flows once it is bootstrapped
    Create {
        /// What it is
        #[arg(long = "type", value_enum)]
        kind: IpcpType,
        /// Its name on this host
        #[arg(long, value_parser = ipcp_name)]
        name: String,
        /// Leave it down when it ends
        #[arg(long)]
        no_restart: bool,
    },
    /// Give an IPCP its layer and address; starts it first where it does not exist
    #[command(after_help = BOOTSTRAP_EXAMPLES)]
    Bootstrap(Box<Bootstrap>),
    /// Make an IPCP a member of a session at a rendezvous: its hosts reach each other through NATs
    #[command(after_help = ENROLL_EXAMPLES)]
    Enroll(Box<Enroll>),
    /// Stop an IPCP and forget it; its flows end
    Destroy {
        /// Its name on this host
        #[arg(long, value_parser = ipcp_name)]
        name: String,
    },
    /// List the IPCPs
    List(Listing),
    /// The static directory of an IPCP: which host has which name
    #[command(subcommand)]
    Host(HostCommand),
}

const BOOTSTRAP_EXAMPLES: &str = "\
Examples:
  irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1
  irm ipcp bootstrap --type udp --name udp6 --layer net6 --ip fd00::1 --host 'echo=[fd00::2]:3400'
  irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --dns-zone flows.example.org \\
                     --dns-server 10.0.0.53 --dns-key /etc/flowring/flows.key
  irm ipcp bootstrap --type udp --name old --layer lab --ip 10.0.0.1 --port 3360 --echo on-arrival";

const ENROLL_EXAMPLES: &str = "\
Examples:
  irm ipcp enroll --name udp0 --layer lobby --via rdv.example:3360 --session darkreign --key-file /etc/flowring/darkreign.key
  irm ipcp enroll --name udp0 --layer lobby --via 198.51.100.1 --session darkreign --key-file k --ip 192.168.1.2";

/// `irm ipcp enroll …`
#[derive(Debug, Args)]
pub struct Enroll {
    /// Its name on this host
    #[arg(long, value_parser = ipcp_name)]
    pub name: String,
    /// The layer it becomes a member of: the session's members
    #[arg(long, value_parser = layer_name)]
    pub layer: String,
    /// The rendezvous
    #[arg(long, value_name = "HOST[:PORT]")]
    pub via: String,
    /// The session there
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub session: String,
    /// File with the session's key; not readable by every user
    #[arg(long, value_name = "FILE")]
    pub key_file: PathBuf,
    /// Address of this host [default: the one it sends to the rendezvous from]
    #[arg(long, value_parser = ip_address)]
    pub ip: Option<String>,
    /// UDP port that takes allocations
    #[arg(long, default_value_t = 3359, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// What is done where hellos to known addresses come to nothing [default: predict]
    #[arg(long, value_enum, value_name = "HOW")]
    pub punch: Option<Punch>,
    /// Ask this host's router to map ports to it (PCP, NAT-PMP, UPnP): for flows that would find no direct path
    #[arg(long)]
    pub map_ports: bool,
    /// Leave it down when it ends
    #[arg(long)]
    pub no_restart: bool,
}

/// What a member does where a NAT gives each mapping another port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Punch {
    /// Nothing
    Plain,
    /// Says hello to the ports that the other's NAT would give next
    Predict,
    /// And where there is no relay, searches by 256 sockets or 1,024 ports; both sides have to say so
    Search,
}

impl Punch {
    /// As irmd is told.
    pub fn said(punch: Option<Self>) -> v1::Punch {
        match punch {
            None => v1::Punch::Unspecified,
            Some(Self::Plain) => v1::Punch::Plain,
            Some(Self::Predict) => v1::Punch::Predict,
            Some(Self::Search) => v1::Punch::Search,
        }
    }
}

/// `irm ipcp bootstrap …`
#[derive(Debug, Args)]
pub struct Bootstrap {
    /// What it is
    #[arg(long = "type", value_enum)]
    pub kind: IpcpType,
    /// Its name on this host
    #[arg(long, value_parser = ipcp_name)]
    pub name: String,
    /// The layer it becomes a member of
    #[arg(long, value_parser = layer_name)]
    pub layer: String,
    /// Address of this host, IPv4 or IPv6
    #[arg(long, value_parser = ip_address)]
    pub ip: String,
    /// UDP port that takes allocations
    #[arg(long, default_value_t = 3359, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// A name and the host that has it; may be given again and again
    #[arg(long = "host", value_name = "NAME=ADDR[:PORT]", value_parser = host_entry)]
    pub hosts: Vec<HostEntry>,
    /// UDP ports for accepted flows, or `listen`: all on --port, the only one that a firewall must let in; then only
    /// programs of the IPCP's own user accept flows [default: the system's range]
    #[arg(long, value_name = "FIRST-LAST|listen", value_parser = port_range)]
    pub sp_range: Option<PortRange>,
    /// Look names up in this DNS zone, and register them there if there is a key
    #[arg(long, value_name = "ZONE")]
    pub dns_zone: Option<String>,
    /// A name server; may be given again and again [default: the system's; for updates the zone's primary]
    #[arg(long = "dns-server", requires = "dns_zone", value_name = "ADDR[:PORT]", value_parser = name_server)]
    pub dns_servers: Vec<String>,
    /// File with the TSIG key that may update the zone, as tsig-keygen writes it
    #[arg(long, requires = "dns_zone", value_name = "FILE")]
    pub dns_key: Option<PathBuf>,
    /// Seconds after which a record is void that is not refreshed [default: 900]
    #[arg(long, requires = "dns_zone", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(3..=604_800))]
    pub dns_lifetime: Option<u32>,
    /// Seconds that other name servers may keep a record [default: 60]
    #[arg(long, requires = "dns_zone", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub dns_ttl: Option<u32>,
    /// When a classic caller (2016) gets its echo
    #[arg(long, value_enum, default_value_t = Echo::OnAccept)]
    pub echo: Echo,
    /// Leave it down when it ends
    #[arg(long)]
    pub no_restart: bool,
}

/// Types of IPCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IpcpType {
    /// A layer over UDP.
    Udp,
}

/// The moment of a classic caller's echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Echo {
    /// Once a program accepted.
    OnAccept,
    /// At once, as in 2016.
    OnArrival,
}

/// `irm ipcp host …`
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Say which host has a name; replaces what was said before
    Add {
        /// The IPCP
        #[arg(long, value_parser = ipcp_name)]
        name: String,
        /// The name and its host
        #[arg(value_name = "NAME=ADDR[:PORT]", value_parser = host_entry)]
        host: HostEntry,
    },
    /// Forget which host has a name
    Remove {
        /// The IPCP
        #[arg(long, value_parser = ipcp_name)]
        name: String,
        /// The name to forget
        #[arg(value_name = "NAME", value_parser = name)]
        host: String,
    },
    /// List the entries
    List {
        /// The IPCP
        #[arg(long, value_parser = ipcp_name)]
        name: String,
        /// How to print
        #[command(flatten)]
        listing: Listing,
    },
}

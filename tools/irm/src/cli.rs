//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod rules;

pub use rules::{Asker, Rules};

use crate::machine::argument::{
    HostEntry, PortRange, host_entry, ip_address, ipcp_name, layer_name, name, name_server, port_range,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  irmd said no; why is on standard error
  2  wrong usage, or irmd is not reachable

Example, two commands to the first flow:
  irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --host echo=10.0.0.2
  oping echo";

/// Asks irmd about names, IPCPs and flows, and changes them.
#[derive(Debug, Parser)]
#[command(name = "irm", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Folder of irmd's sockets [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR", global = true)]
    pub run_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The first word.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How irmd and its IPCPs are
    Status(Listing),
    /// IPC processes: one per layer and address
    #[command(subcommand)]
    Ipcp(IpcpCommand),
    /// Names that flows are allocated to
    #[command(subcommand)]
    Name(NameCommand),
    /// Give a name to a program or a process
    #[command(subcommand)]
    Bind(BindCommand),
    /// Take a name from a program or a process
    #[command(subcommand)]
    Unbind(UnbindCommand),
    /// Every flow of this host
    #[command(subcommand)]
    Flow(FlowCommand),
    /// The running configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// End irmd and its IPCPs in order
    #[command(after_help = SHUTDOWN_EXAMPLES)]
    Shutdown(Shutdown),
    /// Print completions for a shell, e.g. `irm completions bash > /etc/bash_completion.d/irm`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const SHUTDOWN_EXAMPLES: &str = "\
At once nothing new is taken: no flow, no name. Flows that there are may end by themselves for the time of --drain, then
the daemons end. Flows that are left go on between their programs, and the next irmd lists them again; with --flows end
they are ended. Returns when irmd has ended; prints how many flows were left.

Examples:
  irm shutdown                            for an upgrade: no flow is lost
  irm shutdown --drain 60 --flows end     before the host goes down";

/// `irm shutdown …`
#[derive(Clone, Copy, Debug, Args)]
pub struct Shutdown {
    /// Flows have so long to end by themselves; at most a day
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub drain: u32,
    /// What becomes of flows that are left then
    #[arg(long, value_enum, default_value_t = Left::Keep)]
    pub flows: Left,
}

/// What becomes of flows without daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Left {
    /// They go on.
    Keep,
    /// They are ended, on both sides.
    End,
}

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Listing {
    /// Print JSON, whose keys stay the same over versions
    #[arg(long)]
    pub json: bool,
}

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

/// `irm name …`
#[derive(Debug, Subcommand)]
pub enum NameCommand {
    /// Make a name
    Create {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// Who takes the next flow, where several serve the name
        #[arg(long, value_enum, default_value_t = Policy::RoundRobin)]
        policy: Policy,
        /// Who may use it
        #[command(flatten)]
        rules: Rules,
    },
    /// Say who may serve a name and who may allocate to it; without a name, list the rules of patterns
    #[command(after_help = rules::EXAMPLES)]
    Rules {
        /// The name, or the beginning of names and a *
        #[arg(value_name = "NAME|PATTERN", value_parser = name, requires = "rule-set")]
        name: Option<String>,
        /// Who may use it
        #[command(flatten)]
        rules: Rules,
        /// How the list is printed
        #[command(flatten)]
        listing: Listing,
    },
    /// Whether somebody may serve a name or allocate to it, and which rule says so
    May {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// Who would
        #[command(flatten)]
        asker: Asker,
        /// How to print
        #[command(flatten)]
        listing: Listing,
    },
    /// Forget a name, its bindings and registrations
    Destroy {
        /// The name
        #[arg(value_parser = name)]
        name: String,
    },
    /// List the names
    List(Listing),
    /// Make a name reachable in a layer
    Register {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// The layer
        #[arg(long, value_parser = layer_name)]
        layer: String,
    },
    /// Make a name unreachable in a layer
    Unregister {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// The layer
        #[arg(long, value_parser = layer_name)]
        layer: String,
    },
    /// Say where a flow to a name would go, and what every source said
    Resolve {
        /// The name
        #[arg(value_parser = name)]
        name: String,
        /// One layer only
        #[arg(long, value_parser = layer_name)]
        layer: Option<String>,
        /// How to print
        #[command(flatten)]
        listing: Listing,
    },
}

/// Load balancing of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// They take turns.
    RoundRobin,
    /// The first that accepts, in the order of binding.
    Spill,
}

/// `irm bind …`
#[derive(Debug, Subcommand)]
pub enum BindCommand {
    /// Processes of this program may serve the name
    #[command(after_help = "\
Example, a server that starts when its first flow arrives:
  irm bind program /usr/bin/oping --name echo --auto -- --listen echo")]
    Program {
        /// The program: a path, or a word looked up in PATH
        program: PathBuf,
        /// The name
        #[arg(long, value_parser = name)]
        name: String,
        /// Start it when a flow arrives and nobody accepts
        #[arg(long)]
        auto: bool,
        /// Start it as this user, by name or number [default: whoever runs irm; as root irmd's own user]
        #[arg(long)]
        user: Option<String>,
        /// Its arguments when it is started
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// This process may serve the name
    Process {
        /// Its process id
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
        pid: u32,
        /// The name
        #[arg(long, value_parser = name)]
        name: String,
    },
}

/// `irm unbind …`
#[derive(Debug, Subcommand)]
pub enum UnbindCommand {
    /// Processes of this program no longer serve the name
    Program {
        /// The program, as it was bound
        program: PathBuf,
        /// The name
        #[arg(long, value_parser = name)]
        name: String,
    },
    /// This process no longer serves the name
    Process {
        /// Its process id
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
        pid: u32,
        /// The name
        #[arg(long, value_parser = name)]
        name: String,
    },
}

/// `irm flow …`
#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// List the flows
    List(Listing),
    /// All about one flow
    Show {
        /// Its id in `irm flow list`
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// How to print
        #[command(flatten)]
        listing: Listing,
    },
    /// End a flow, whoever holds it
    Dealloc {
        /// Its id in `irm flow list`
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
}

/// `irm config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the running state as an irmd.toml
    Export,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_command_line_parses() {
        let lines = [
            "irm status --json --run-dir /tmp/x",
            "irm ipcp create --type udp --name udp0",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip fd00::1 --port 3360 --host echo=10.0.0.2 \
             --host b=[fd00::2]:1 --sp-range 40000-41000 --echo on-arrival --no-restart",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --sp-range listen",
            "irm ipcp destroy --name udp0",
            "irm ipcp list --json",
            "irm ipcp host add --name udp0 echo=10.0.0.2",
            "irm ipcp host remove --name udp0 echo",
            "irm ipcp host list --name udp0 --json",
            "irm name create echo --policy spill",
            "irm name create web --serve alice,@www --allow-local any --allow-remote 10.0.0.0/8 --deny-remote 10.9.0.0/16",
            "irm name rules game.* --serve @games",
            "irm name rules web --serve default --allow-remote none",
            "irm name rules --json",
            "irm name may web --user alice --json",
            "irm name may web --from 10.1.2.3",
            "irm name destroy echo",
            "irm name list --json",
            "irm name register echo --layer net",
            "irm name unregister echo --layer net",
            "irm name resolve echo --layer net --json",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --dns-zone flows.test \
             --dns-server 10.0.0.53 --dns-server [fd00::53]:5353 --dns-key flows.key --dns-lifetime 900 --dns-ttl 60",
            "irm bind program ./server --name echo --auto --user www-data -- --listen echo -q",
            "irm bind process 4711 --name echo",
            "irm unbind program ./server --name echo",
            "irm unbind process 4711 --name echo",
            "irm --run-dir /tmp/x flow list --json",
            "irm flow show 12 --json",
            "irm flow dealloc 12",
            "irm config export",
            "irm completions bash",
        ];
        for line in lines {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        let lines = [
            "irm",
            "irm ipcp create --type tcp --name x",
            "irm ipcp create --type udp --name a/b",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 0.0.0.0",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --port 0",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --sp-range 2-1",
            "irm name register echo",
            "irm name resolve",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --dns-server 10.0.0.53",
            "irm ipcp bootstrap --type udp --name udp0 --layer net --ip 10.0.0.1 --dns-zone a.b --dns-server ns.a.b",
            "irm name rules web",
            "irm name rules --serve any",
            "irm name may web --user alice --from 10.1.2.3",
            "irm name may web --from nowhere",
            "irm bind process 0 --name echo",
            "irm flow show 0",
            "irm flow show x",
        ];
        for line in lines {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }

    #[test]
    fn arguments_after_two_dashes_belong_to_the_program() {
        let cli = parse("irm bind program ./server --name echo --auto -- --name other -x").unwrap();
        let Command::Bind(BindCommand::Program { name, args, auto, .. }) = cli.command else { panic!("{cli:?}") };
        assert_eq!((name.as_str(), auto), ("echo", true));
        assert_eq!(args, ["--name", "other", "-x"]);
    }
}

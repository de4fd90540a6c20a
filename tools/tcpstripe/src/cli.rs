//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::said::classic::Framing;
use crate::said::config;
use crate::said::end::{HostPort, Via};
use crate::said::rule::{EndMark, How, Policy, Proxy, Relay, Rule};
use crate::said::tracks::Tracks;

const AFTER_HELP: &str = "\
Tracks are stream flows, flow:NAME[,layer=LAYER], each with a congestion control of its own; or TCP
connections with ro-ro-tcp's protocol, tcp:HOST:PORT[,local=ADDRESS][,device=INTERFACE]. Several --to
spread them over paths, in turn.

Over flows a track may die or stall: what it did not bring goes over the others, and it is replaced.
Over TCP a track that breaks ends its group. A connection that was cut short is reset at both ends;
one that ended in order has arrived whole.

Exit codes:
  0  done, or told to stop
  1  a transfer failed, or nothing of ours runs
  2  wrong usage, or a wrong configuration file
  3  cannot listen, or irmd is not reachable

Examples:
  tcpstripe relay --accept flow:bulk --to 127.0.0.1:5201
  tcpstripe proxy --listen 127.0.0.1:9000 --to flow:bulk -n 8
  tcpstripe proxy --listen 127.0.0.1:9000 --to flow:bulk -n auto
  tcpstripe proxy --listen 9000 --to tcp:relay.example:9100 -n 4 --congestion cubic
  tcpstripe status";

/// One TCP connection over many tracks.
#[derive(Clone, Debug, Parser)]
#[command(name = "tcpstripe", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Folder of irmd's sockets and of our own [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR", global = true)]
    pub run_dir: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Take clients, and carry each over tracks to a relay
    Proxy(ProxyArgs),
    /// Take tracks, and connect each group of them to a target
    Relay(RelayArgs),
    /// Do all that a configuration file says
    Run {
        /// The file: tables of proxies and relays, with this program's options as keys
        file: PathBuf,
        /// Serve metrics for Prometheus over HTTP here
        #[arg(long, value_name = "ADDRESS:PORT")]
        metrics: Option<SocketAddr>,
    },
    /// Read a configuration file and say what is wrong with it
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show the groups of all proxies and relays on this host, and their tracks
    Status {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a file over tracks to tcpstripe recv
    Send(SendArgs),
    /// Receive files into a folder
    Recv(RecvArgs),
    /// Print completions for a shell
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
}

/// How bytes are carried.
#[derive(Clone, Debug, Args)]
pub struct HowArgs {
    /// Which track takes the next chunk: first-free, lowest-rtt, round-robin, redundant (flows only)
    #[arg(long, value_name = "POLICY", default_value = "first-free")]
    pub schedule: Policy,
    /// Bytes of one client that may wait at this end for those before them
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = config::size)]
    pub window: u32,
    /// The longest chunk, bytes [default: adapts to each track]
    #[arg(long, value_name = "BYTES", value_parser = config::size)]
    pub chunk: Option<u32>,
    /// TCP tracks: how long a datagram's size is, u16 or u32
    #[arg(long, default_value = "u16")]
    pub framing: Framing,
    /// TCP tracks: how a stream's end is told, fin or mark
    #[arg(long, default_value = "fin")]
    pub end: EndMark,
    /// Congestion control of the tracks: bbr3, cubic, newreno for flows; what the kernel has for TCP
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<String>,
    /// A client without any track is given up after so long
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub patience: Duration,
    /// How long dialling a target or a relay, or allocating a flow, may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub dial_timeout: Duration,
    /// Clients served at a time
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub max_clients: usize,
}

/// `tcpstripe proxy`
#[derive(Clone, Debug, Args)]
pub struct ProxyArgs {
    /// Where clients connect; a port alone is on 127.0.0.1
    #[arg(short, long, value_name = "[ADDRESS:]PORT")]
    pub listen: HostPort,
    /// What the tracks run over; several are taken in turn
    #[arg(short, long, value_name = "TRACKS", required = true)]
    pub to: Vec<Via>,
    /// Tracks for each client: a number, or auto (flows only): 1 for each --to, and up to 8 while that pays
    #[arg(short = 'n', long, value_name = "N|auto", default_value = "8")]
    pub tracks: Tracks,
    /// How bytes are carried
    #[command(flatten)]
    pub how: HowArgs,
    /// Serve metrics for Prometheus over HTTP here
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
}

/// `tcpstripe relay`
#[derive(Clone, Debug, Args)]
pub struct RelayArgs {
    /// Where tracks come from; may be given again and again
    #[arg(short, long, value_name = "TRACKS", required = true)]
    pub accept: Vec<Via>,
    /// The target that each client is connected to
    #[arg(short, long, value_name = "[HOST:]PORT")]
    pub to: HostPort,
    /// How bytes are carried
    #[command(flatten)]
    pub how: HowArgs,
    /// Serve metrics for Prometheus over HTTP here
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
}

/// `tcpstripe send`
#[derive(Clone, Debug, Args)]
pub struct SendArgs {
    /// The file
    pub file: PathBuf,
    /// What the tracks run over; several are taken in turn
    #[arg(required = true, value_name = "TRACKS")]
    pub to: Vec<Via>,
    /// Tracks: a number, or auto, as of tcpstripe proxy
    #[arg(short = 'n', long, value_name = "N|auto", default_value = "8")]
    pub tracks: Tracks,
    /// Forget what the receiver has of this file from a transfer that broke; else it goes on from there
    #[arg(long)]
    pub anew: bool,
    /// How bytes are carried
    #[command(flatten)]
    pub how: HowArgs,
}

/// `tcpstripe recv`
#[derive(Clone, Debug, Args)]
pub struct RecvArgs {
    /// The folder
    pub folder: PathBuf,
    /// Where tracks come from
    #[arg(required = true, value_name = "TRACKS")]
    pub accept: Vec<Via>,
    /// End after the first file
    #[arg(long)]
    pub once: bool,
    /// How bytes are carried
    #[command(flatten)]
    pub how: HowArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value = text.parse().map_err(|_| format!("{text:?} is no time; give seconds, such as 0.5"))?;
    config::seconds(value)
}

impl HowArgs {
    /// As rules have it.
    pub fn how(&self) -> How {
        How {
            policy: self.schedule,
            window: self.window,
            chunk: self.chunk,
            framing: self.framing,
            end: self.end,
            congestion: self.congestion.clone(),
            patience: self.patience,
            dial_timeout: self.dial_timeout,
            max_clients: self.max_clients,
        }
    }
}

impl ProxyArgs {
    /// The rule it asks for.
    pub fn rule(&self) -> Rule {
        let Self { listen, to, tracks, how, .. } = self;
        Rule::Proxy(Proxy { listen: listen.clone(), to: to.clone(), tracks: *tracks, how: how.how() })
    }
}

impl RelayArgs {
    /// The rule it asks for.
    pub fn rule(&self) -> Rule {
        Rule::Relay(Relay { accept: self.accept.clone(), to: self.to.clone(), how: self.how.how() })
    }
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
    fn defaults_are_those_of_rules() {
        let cli = parse("tcpstripe proxy --listen 127.0.0.1:9000 --to flow:bulk").unwrap();
        let Command::Proxy(args) = cli.command else { panic!("{cli:?}") };
        let Rule::Proxy(proxy) = args.rule() else { panic!("{args:?}") };
        assert_eq!((proxy.how, proxy.tracks), (How::default(), Tracks::Fixed(crate::said::tracks::TRACKS)));
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        for line in [
            "tcpstripe",
            "tcpstripe proxy --listen 9000",
            "tcpstripe proxy --listen 9000 --to bulk",
            "tcpstripe proxy --listen 9000 --to flow:a --schedule best",
            "tcpstripe proxy --listen 9000 --to flow:a --patience -1",
            "tcpstripe relay --accept flow:a",
            "tcpstripe relay --accept flow:a --to 80 --window lots",
        ] {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
        assert!(parse("tcpstripe relay -a tcp:0.0.0.0:9100 -t 80 --framing u32 --end mark --run-dir /tmp").is_ok());
    }
}

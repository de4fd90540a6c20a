//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

const AFTER_HELP: &str = "\
Exit codes:
  0  done; it was stopped
  1  it could not be done; standard error says why
  2  wrong usage
  3  status, reload, stop: no rendezvous runs there

Examples:
  rendezvous key /etc/flowring/lobby.key                     make a session's key
  rendezvous --session lobby --key-file /etc/flowring/lobby.key
  rendezvous --listen 0.0.0.0:3360 --listen [::]:3360 --config /etc/flowring/rendezvous.toml
  rendezvous status --session lobby                          who is there
  rendezvous join lobby --as alice                           at a member: chat with the others
Members come with
  irm ipcp enroll --name udp0 --layer lobby --via HOST:3360 --session lobby --key-file FILE";

/// Where hosts behind NATs find each other: tells the members of a session where the others are seen.
#[derive(Clone, Debug, Parser)]
#[command(name = "rendezvous", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(arg_required_else_help = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do, other than to serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Serve,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub completions: Option<clap_complete::Shell>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a session's key, in a new file that only its owner reads
    Key {
        /// The file
        file: PathBuf,
    },
    /// Chat with the members of a session, directly: lines that are typed go to all
    #[command(after_help = JOIN_HELP)]
    Join(Join),
    /// Show sessions, and what was refused and dropped
    Status {
        /// With the members of this session
        #[arg(long, value_name = "NAME")]
        session: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Which.
        #[command(flatten)]
        place: Where,
    },
    /// Make it read its configuration and key files again; members of sessions that stay notice nothing
    Reload {
        /// Which.
        #[command(flatten)]
        place: Where,
    },
    /// End it
    Stop {
        /// How long relayed flows may go on, such as 10m [default: that of start]
        #[arg(long, value_name = "TIME", value_parser = service::values::time)]
        drain: Option<Duration>,
        /// Which.
        #[command(flatten)]
        place: Where,
    },
    /// Say what is wrong with a configuration, or what it comes to
    Check {
        /// The file
        file: PathBuf,
    },
}

const JOIN_HELP: &str = "\
Needs an irmd with a layer that is enrolled in the session; without one, members on this host chat. Each member has the name
SESSION.chat.MEMBER and a flow with each other one; who comes and goes is told, with the path and its round trip. /who shows
all, /quit or the end of the input leaves.

Example:
  irm ipcp enroll --name udp0 --layer lobby --via rdv.example:3360 --session darkreign --key-file FILE
  rendezvous join darkreign --as alice";

/// `rendezvous join …`
#[derive(Args, Clone, Debug)]
pub struct Join {
    /// The session
    #[arg(value_name = "SESSION", value_parser = tool::name)]
    pub session: String,
    /// Under which name, without dots [default: $USER, else the host's name]
    #[arg(long = "as", value_name = "MEMBER")]
    pub member: Option<String>,
    /// Only in this layer [default: the one that is enrolled in the session, else all]
    #[arg(long, value_name = "LAYER")]
    pub layer: Option<String>,
    /// Members at most; all say the same
    #[arg(long, value_name = "N", default_value_t = libflow::MOST_MEMBERS as u16, value_parser = clap::value_parser!(u16).range(2..=100))]
    pub most: u16,
    /// Folder of irmd's sockets [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

/// How to serve.
#[derive(Args, Clone, Debug, Default)]
pub struct Serve {
    /// Where members speak to: an address, and a port where it is not 3360. May be given several times. The port after it
    /// answers members that find out what NAT they are behind, the one after that is the relay's [default: 0.0.0.0:3360]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = listen)]
    pub listen: Vec<SocketAddr>,
    /// The configuration, with the sessions
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["session", "key_file"])]
    pub config: Option<PathBuf>,
    /// Without a configuration: the one session
    #[arg(long, value_name = "NAME", requires = "key_file")]
    pub session: Option<String>,
    /// Its key; see rendezvous key
    #[arg(long, value_name = "FILE", requires = "session")]
    pub key_file: Option<PathBuf>,
    /// Tell a member's local addresses only to members behind the same public address
    #[arg(long)]
    pub hide_local: bool,
    /// Relay flows of members that cannot reach each other; quotas are the configuration's
    #[arg(long)]
    pub relay: bool,
    /// Under which address members reach this server, where it is behind a NAT of its own
    #[arg(long, value_name = "ADDR")]
    pub advertise: Vec<IpAddr>,
    /// How to run.
    #[command(flatten)]
    pub run: Run,
}

/// How to run.
#[derive(Args, Clone, Debug, Default)]
pub struct Run {
    /// What to log: error, warn, info, debug, or a filter. Members and introductions are info, a line each
    #[arg(long, value_name = "FILTER", default_value = "info", env = "FLOWRING_LOG")]
    pub log: String,
    /// Log into this file, which is begun anew when it has 16 MB [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Serve metrics for Prometheus over HTTP, such as 127.0.0.1:9108
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// How long introductions and relayed flows may go on after SIGTERM, while nobody new is let in [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = service::values::time)]
    pub drain: Option<Duration>,
    /// Where the control socket is.
    #[command(flatten)]
    pub place: Where,
}

/// Where the control socket is.
#[derive(Args, Clone, Debug, Default)]
pub struct Where {
    /// Folder of the control socket [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

/// Where it listens unless told.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), proto::rendezvous::PORT);

/// An address, with a port or on the usual one.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let whole = text.parse().ok();
    let alone = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    whole
        .or_else(|| alone().map(|ip| SocketAddr::new(ip, proto::rendezvous::PORT)))
        .ok_or_else(|| format!("'{text}' is no address to listen at; give one such as 0.0.0.0:3360 or [::]:3360"))
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
    fn addresses_are_read_with_and_without_a_port() {
        let cli = parse("rendezvous --listen 0.0.0.0 --listen [::]:5 --listen ::1 --session a --key-file b").unwrap();
        let want = ["0.0.0.0:3360", "[::]:5", "[::1]:3360"].map(|text| text.parse().unwrap());
        assert_eq!(cli.serve.listen, want);
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        for line in [
            "rendezvous",
            "rendezvous --listen nowhere",
            "rendezvous --session a",
            "rendezvous --key-file a",
            "rendezvous --config a --session b --key-file c",
            "rendezvous --relay status",
            "rendezvous key",
            "rendezvous --advertise example.org",
            "rendezvous join",
            "rendezvous join a --most 1",
        ] {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}

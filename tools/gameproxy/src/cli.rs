//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::said::rule::Place;

const AFTER_HELP: &str = "\
Exit codes:
  0  done; it was stopped
  1  it could not be done; standard error says why
  2  wrong usage
  3  status, reload, stop: no gameproxy runs there

Examples:
  gameproxy local --redirect 27910=10.0.0.1:27910           one process: a plain UDP proxy
  gameproxy local --redirect 27910=10.0.0.1:27910 --delay 30ms+20ms
  gameproxy server --name q2proxy --config FILE             near the game servers
  gameproxy client --server flow:q2proxy                    near the players
  gameproxy check FILE --client 192.168.1.7:27901           what matches, and why
  gameproxy ping 192.168.1.1:27910                          how far away the proxy is";

/// Carries game datagrams from players to servers, in one process or through flows.
#[derive(Clone, Debug, Parser)]
#[command(name = "gameproxy", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub completions: Option<clap_complete::Shell>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Carry from players to servers in this one process
    Local {
        /// Which redirects.
        #[command(flatten)]
        rules: RulesFrom,
        /// How to run.
        #[command(flatten)]
        run: Run,
    },
    /// The side near the players
    Client {
        /// The server sides: flow:NAME, or ADDR:PORT of one that speaks the byte stream over TCP
        #[arg(long, value_name = "SERVER", required = true)]
        server: Vec<String>,
        /// What carries the datagrams
        #[arg(long, value_enum, default_value_t = Carrier::Message)]
        carrier: Carrier,
        /// Ports that are opened without being told by the server side: with the byte stream, which tells nothing.
        #[command(flatten)]
        rules: RulesFrom,
        /// How to run.
        #[command(flatten)]
        run: Run,
    },
    /// The side near the game servers
    Server {
        /// The name to serve
        #[arg(long, value_name = "NAME", required_unless_present = "inetd", value_parser = tool::name)]
        name: Option<String>,
        /// What carries the datagrams
        #[arg(long, value_enum, default_value_t = Carrier::Message)]
        carrier: Carrier,
        /// Serve the byte stream on descriptor 0, as inetd passes it, until it ends
        #[arg(long, conflicts_with_all = ["name", "metrics", "drain", "watch"])]
        inetd: bool,
        /// Which redirects.
        #[command(flatten)]
        rules: RulesFrom,
        /// How to run.
        #[command(flatten)]
        run: Run,
    },
    /// Show players, redirects and ways
    Status {
        /// Show so many players at most
        #[arg(short, long, value_name = "N", default_value_t = 20)]
        players: usize,
        /// As JSON, with all players; a line for each that runs
        #[arg(long)]
        json: bool,
        /// Which.
        #[command(flatten)]
        which: Which,
    },
    /// Make it read its configuration again; who may still play goes on
    Reload {
        /// Which.
        #[command(flatten)]
        which: Which,
    },
    /// End it
    Stop {
        /// How long players may go on, such as 10m [default: that of start]
        #[arg(long, value_name = "TIME", value_parser = service::values::time)]
        drain: Option<Duration>,
        /// Which.
        #[command(flatten)]
        which: Which,
    },
    /// Say what is wrong with a configuration, or what it comes to for a player, and why
    Check {
        /// The file
        file: PathBuf,
        /// The player's address and port
        #[arg(long, value_name = "ADDR:PORT")]
        client: Option<SocketAddr>,
        /// Where it sends to [default: each place that a redirect names]
        #[arg(long, value_name = "ADDR:PORT", requires = "client")]
        to: Option<SocketAddr>,
        /// Addresses of the client machine, for redirects with on [default: it is whichever on says]
        #[arg(long, value_name = "ADDR", requires = "client")]
        machine: Vec<IpAddr>,
    },
    /// Measure the round trip to a client side, and from it to the server side, as a player
    Ping {
        /// A port of the client side, such as 192.168.1.1:27910
        #[arg(value_name = "HOST:PORT")]
        at: String,
        /// So many times
        #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Between two, such as 200ms
        #[arg(short, long, value_name = "TIME", default_value = "200ms", value_parser = service::values::time)]
        interval: Duration,
    },
}

/// What carries the datagrams between the two sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// Message flows: unordered, lossy, encrypted
    #[default]
    Message,
    /// The original's encapsulation in one byte stream; IPv4
    Stream,
}

impl Carrier {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Stream => "stream",
        }
    }
}

/// Where redirects come from.
#[derive(Args, Clone, Debug, Default)]
pub struct RulesFrom {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A redirect for everyone: where players send to, such as 27910 or 10.0.0.1:27910, and a server, such as q2.example.org:27910
    #[arg(long, value_name = "FROM=TO", value_parser = redirect, conflicts_with = "config")]
    pub redirect: Vec<(Place, Place)>,
    /// Delays from player to server and back of --redirect, such as 30ms or 30ms+20ms
    #[arg(long, value_name = "UP[+DOWN]", value_parser = delays, requires = "redirect")]
    pub delay: Option<(Duration, Duration)>,
}

/// How to run.
#[derive(Args, Clone, Debug, Default)]
pub struct Run {
    /// What to log: error, warn, info, debug, or a filter. Players are info, two lines each; gameproxy::player=off leaves them
    /// out
    #[arg(long, value_name = "FILTER", default_value = "info", env = "FLOWRING_LOG")]
    pub log: String,
    /// Log into this file, which is begun anew when it has 16 MB [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Serve metrics for Prometheus over HTTP, such as 127.0.0.1:9106
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// How long players may go on after SIGTERM, while nobody new is let in [default: not at all; they come back by themselves]
    #[arg(long, value_name = "TIME", value_parser = service::values::time)]
    pub drain: Option<Duration>,
    /// Read the configuration again whenever it changes
    #[arg(long, requires = "config")]
    pub watch: bool,
    /// Where the sockets are.
    #[command(flatten)]
    pub place: Where,
}

/// Where the sockets are.
#[derive(Args, Clone, Debug, Default)]
pub struct Where {
    /// Folder of the sockets of irmd and of gameproxy itself [else $FLOWRING_RUN_DIR, /run/flowring as root,
    /// $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

/// Which of those that run.
#[derive(Args, Clone, Debug, Default)]
pub struct Which {
    /// Only the one of this role [default: all that run]
    #[arg(value_enum)]
    pub role: Option<Role>,
    /// Where the sockets are.
    #[command(flatten)]
    pub place: Where,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Both sides in one process
    Local,
    /// The side near the players
    Client,
    /// The side near the game servers
    Server,
}

fn redirect(text: &str) -> Result<(Place, Place), String> {
    let wrong = || format!("'{text}' is no redirect; give one such as 27910=10.0.0.1:27910");
    let (from, to) = text.split_once('=').ok_or_else(wrong)?;
    Ok((Place::parse(from, true)?, Place::parse(to, false)?))
}

fn delays(text: &str) -> Result<(Duration, Duration), String> {
    crate::said::grammar::delays(text)
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
    fn redirects_and_delays_are_read() {
        let line = "gameproxy local --redirect 27910=10.0.0.1:27911 --redirect [::1]:5=[::2]:6 \
                    --redirect gate.example:7=q2.example:8 --delay 30ms+20ms";
        let Some(Command::Local { rules, .. }) = parse(line).unwrap().command else { panic!("no local") };
        let words: Vec<String> = rules.redirect.iter().map(|(from, to)| format!("{from} {to}")).collect();
        assert_eq!(words, ["0.0.0.0:27910 10.0.0.1:27911", "[::1]:5 [::2]:6", "gate.example:7 q2.example:8"]);
        assert_eq!(rules.delay, Some((Duration::from_millis(30), Duration::from_millis(20))));
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        let lines = [
            "gameproxy local --redirect 1",
            "gameproxy local --redirect 1=2",
            "gameproxy local --redirect 70000=10.0.0.1:1",
            "gameproxy local --redirect 1=*:5",
            "gameproxy local --delay 5ms",
            "gameproxy local --redirect 1=10.0.0.1:1 --delay 5",
            "gameproxy local --redirect 1=10.0.0.1:1 --delay 11s",
            "gameproxy client",
            "gameproxy server",
            "gameproxy server --name a --inetd",
            "gameproxy server --inetd --redirect 1=10.0.0.1:1 --drain 5s",
            "gameproxy client --server flow:a --watch",
        ];
        for line in lines {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};

const AFTER_HELP: &str = "\
A stream carries bytes each way, each way with an end of its own: when standard input ends, the
peer reads its end, and what the peer sends is still written out. Messages and raw flows have no
such end: each read of the input is one message, and flowcat deallocates the flow after the input's
end (-q). Raw flows are not encrypted, and lose what the path loses.

Exit codes:
  0  all that was sent and received is complete
  1  the stream was reset, the flow broke, or standard output went away
  2  wrong usage
  3  no flow could be allocated, or the name could not be served; also when irmd is not reachable

Examples:
  flowcat --listen backup > files.tar        on one host
  tar c files | flowcat -p backup            on the other
  flowcat --listen time --keep --exec date   a process for each flow
  echo hello | flowcat --raw -q 1 echo       one SDU, and a second for the answer";

/// Connects standard input and output to a flow; or listens on a name for one.
#[derive(Clone, Debug, Parser)]
#[command(name = "flowcat", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(group(ArgGroup::new("what").required(true).args(["name", "listen", "completions"])))]
#[command(group(ArgGroup::new("kind").args(["stream", "message", "raw"])))]
pub struct Cli {
    /// The name to allocate a flow to
    #[arg(value_parser = tool::name)]
    pub name: Option<String>,
    /// Serve this name: create, bind and register it, and take one flow
    #[arg(short, long, value_name = "NAME", value_parser = tool::name)]
    pub listen: Option<String>,
    /// Run this in a shell for each flow, its input and output connected to it. If it fails, the stream is reset
    #[arg(short, long, value_name = "COMMAND")]
    pub exec: Option<String>,
    /// Go on listening after the first flow; with --exec many are served at a time
    #[arg(short, long, conflicts_with = "name")]
    pub keep: bool,
    /// A reliable stream of bytes, encrypted between hosts (the default). Who listens takes flows of every kind, unless one is
    /// given
    #[arg(long)]
    pub stream: bool,
    /// Messages, encrypted between hosts, where they may be lost
    #[arg(long)]
    pub message: bool,
    /// A raw flow: SDUs in clear, as the network carries them
    #[arg(long)]
    pub raw: bool,
    /// Show on standard error how much went which way
    #[arg(short, long)]
    pub progress: bool,
    /// After the input's end, wait so long at most for the peer's [default: for ever; messages and raw: 0]
    #[arg(short = 'q', long, value_name = "SECONDS", value_parser = seconds)]
    pub linger: Option<Duration>,
    /// How long the allocation may take [default: irmd's]
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "listen")]
    pub alloc_timeout: Option<Duration>,
    /// Over this layer only; when listening: register there, may be given again and again [default: every layer]
    #[arg(long = "layer", value_name = "LAYER")]
    pub layers: Vec<String>,
    /// Folder of irmd's sockets [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<clap_complete::Shell>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    tool::seconds("time", text, 0.0..=86_400.0, "0.5")
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
    fn netcats_habits() {
        let cli = parse("flowcat backup -p -q 0.5 -w 3 --layer net").unwrap();
        assert_eq!((cli.name.as_deref(), cli.progress, cli.raw, cli.message), (Some("backup"), true, false, false));
        assert_eq!((cli.linger, cli.alloc_timeout), (Some(Duration::from_millis(500)), Some(Duration::from_secs(3))));
        let cli = parse("flowcat -l time -k -e date --raw").unwrap();
        assert_eq!(
            (cli.listen.as_deref(), cli.exec.as_deref(), cli.keep, cli.raw),
            (Some("time"), Some("date"), true, true)
        );
        assert!(parse("flowcat backup --exec cat").is_ok());
        assert!(parse("flowcat --completions zsh").is_ok());
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        let lines = [
            "flowcat",
            "flowcat backup --listen backup",
            "flowcat backup --keep",
            "flowcat backup --raw --message",
            "flowcat backup --stream --raw",
            "flowcat backup -q -1",
            "flowcat backup -q nan",
            "flowcat --listen backup -w 3",
        ];
        for line in lines {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}

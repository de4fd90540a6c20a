//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};
use proto::Cube;

use crate::machine::sdu;

const AFTER_HELP: &str = "\
Exit codes:
  0  at least one reply came back
  1  nothing came back, or the flow ended before its time
  2  wrong usage, irmd is not reachable, or no flow could be allocated

Examples:
  oping --listen echo             on one host
  oping echo                      on the other, until Ctrl-C
  oping echo -c 10 -i 0.2 -s 1000
  oping echo -c 1000 -i 0 --json  as fast as replies come, numbers for a script";

/// Sends SDUs to a name and times the replies; or listens on a name and echoes what arrives.
#[derive(Debug, Parser)]
#[command(name = "oping", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(group(ArgGroup::new("what").required(true).args(["name", "listen", "completions"])))]
pub struct Cli {
    /// The name to ping
    #[arg(value_parser = tool::name)]
    pub name: Option<String>,
    /// Serve this name: create, bind and register it, and echo every SDU of every flow
    #[arg(long, value_name = "NAME", value_parser = tool::name)]
    pub listen: Option<String>,
    /// Stop after that many SDUs
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "listen")]
    pub count: Option<u64>,
    /// Time between two SDUs; 0: the next as soon as the last was answered
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1", value_parser = seconds, conflicts_with = "listen")]
    pub interval: Duration,
    /// What the flow is: raw (bare datagrams) or message (encrypted ones)
    #[arg(long, value_name = "QOS", default_value = "raw", value_parser = qos, conflicts_with = "listen")]
    pub qos: Cube,
    /// Size of an SDU, at least 16
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 64, value_parser = size, conflicts_with = "listen")]
    pub size: usize,
    /// How long a reply may take; a later one is flagged, the last one is waited for no longer
    #[arg(short = 'W', long, value_name = "SECONDS", default_value = "2", value_parser = seconds, conflicts_with = "listen")]
    pub wait: Duration,
    /// How long the allocation may take [default: irmd's]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "listen")]
    pub alloc_timeout: Option<Duration>,
    /// Over this layer only; when listening: register there, may be given again and again [default: every layer]
    #[arg(long = "layer", value_name = "LAYER")]
    pub layers: Vec<String>,
    /// No line per reply, or per flow when listening
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the summary as JSON and nothing else
    #[arg(long, conflicts_with = "listen")]
    pub json: bool,
    /// Folder of irmd's sockets [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<clap_complete::Shell>,
}

/// A stream flow carries messages too; pinging over it says nothing that a message flow does not.
fn qos(text: &str) -> Result<Cube, String> {
    match text.parse().map_err(|error: proto::NoSuchCube| error.to_string())? {
        Cube::Stream => {
            Err("oping sends SDUs: give raw or message; `operf NAME --rtt --qos stream` times streams".into())
        }
        cube => Ok(cube),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    tool::seconds("time", text, 0.0..=86_400.0, "0.2")
}

fn size(text: &str) -> Result<usize, String> {
    let range = sdu::MIN..=sdu::MAX;
    text.parse().ok().filter(|size| range.contains(size)).ok_or_else(|| {
        format!("an SDU of oping has {} to {} bytes: its first {} are a header", sdu::MIN, sdu::MAX, sdu::MIN)
    })
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
    fn pings_habits() {
        let cli = parse("oping echo -c 10 -i 0.2 -s 1000 -W 0.5 --json --run-dir /tmp/x").unwrap();
        assert_eq!((cli.name.as_deref(), cli.count, cli.size), (Some("echo"), Some(10), 1000));
        assert_eq!((cli.interval, cli.wait), (Duration::from_millis(200), Duration::from_millis(500)));
        assert!(parse("oping echo -i 0").is_ok());
        assert!(parse("oping --listen echo --quiet --layer net --layer net6").is_ok());
        assert!(parse("oping --completions zsh").is_ok());
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        let lines = [
            "oping",
            "oping echo --listen echo",
            "oping --listen echo -c 3",
            "oping echo -c 0",
            "oping echo -s 15",
            "oping echo -s 70000",
            "oping echo -i -1",
            "oping echo -i nan",
            "oping echo -W inf",
        ];
        for line in lines {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}

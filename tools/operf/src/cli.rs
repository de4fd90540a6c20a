//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};
use libflow::{Congestion, Cube};

use crate::machine::params::{MAX_TIME, Mode, Params};
use crate::machine::sdu;

const AFTER_HELP: &str = "\
Exit codes:
  0  measured
  1  nothing came back, or the flow ended before its time
  2  wrong usage, irmd is not reachable, or no flow could be allocated

Examples:
  operf --listen perf                    on one host
  operf perf                             on the other: SDUs one by one, 1400 bytes, 5 s
  operf perf --batch --reverse -t 10     batches, from the server to here
  operf perf --rtt -s 64 --json          round trips; rtt_us.p50 and more for a script
  operf perf --alloc --parallel 8        flows allocated and deallocated
  operf perf --qos stream                bytes of a stream, encrypted, reliable
  operf --bare-listen 127.0.0.1:7000     the same over a bare UDP socket, to compare with:
  operf --bare 127.0.0.1:7000 --rtt -s 64";

/// Measures flows to a name: throughput, loss, reordering, CPU per SDU, latency, allocations.
#[derive(Clone, Debug, Parser)]
#[command(name = "operf", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(group(ArgGroup::new("what").required(true).args(["name", "listen", "bare", "bare_listen", "completions"])))]
pub struct Cli {
    /// The name to measure
    #[arg(value_parser = tool::name)]
    pub name: Option<String>,
    /// Serve this name: create, bind and register it, and be measured
    #[arg(long, value_name = "NAME", value_parser = tool::name)]
    pub listen: Option<String>,
    /// Measure a bare UDP socket to an `operf --bare-listen`
    #[arg(long, value_name = "ADDR:PORT")]
    pub bare: Option<SocketAddr>,
    /// Be measured over a bare UDP socket, one test after the other
    #[arg(long, value_name = "ADDR:PORT")]
    pub bare_listen: Option<SocketAddr>,
    /// Size of an SDU, at least 16 [default: 1400, 1100 of messages, 16384 on a stream; 64 with --rtt]
    #[arg(short = 's', long, value_name = "BYTES", value_parser = size)]
    pub size: Option<u32>,
    /// How long to measure
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub time: Duration,
    /// What the flow is: raw (bare datagrams), message (encrypted ones) or stream (reliable, encrypted) [default: raw]
    #[arg(long, value_name = "QOS", default_value = "raw", hide_default_value = true, conflicts_with_all = ["listen", "bare", "bare_listen"])]
    pub qos: Cube,
    /// How this side's sending of a message or stream flow is paced: bbr3, cubic or newreno [default: bbr3]
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<Congestion>,
    /// The server sends
    #[arg(long, conflicts_with_all = ["rtt", "alloc"])]
    pub reverse: bool,
    /// Many SDUs per system call, on both sides
    #[arg(long, conflicts_with_all = ["rtt", "alloc"])]
    pub batch: bool,
    /// Round trips, one after the other
    #[arg(long, conflicts_with = "alloc")]
    pub rtt: bool,
    /// Allocations and deallocations of flows
    #[arg(long, conflicts_with_all = ["bare", "size"])]
    pub alloc: bool,
    /// With --alloc: so many at a time
    #[arg(long, value_name = "N", default_value_t = 1, requires = "alloc", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub parallel: u32,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// When listening: no line per test
    #[arg(short, long)]
    pub quiet: bool,
    /// Over this layer only; when listening: register there, may be given again and again [default: every layer]
    #[arg(long = "layer", value_name = "LAYER")]
    pub layers: Vec<String>,
    /// How long an allocation may take [default: irmd's]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub alloc_timeout: Option<Duration>,
    /// Folder of irmd's sockets [else $FLOWRING_RUN_DIR, /run/flowring as root, $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<clap_complete::Shell>,
}

impl Cli {
    /// The test that was asked for.
    pub fn params(&self) -> Params {
        let mode = match (self.rtt, self.alloc) {
            (true, _) => Mode::Rtt,
            (_, true) => Mode::Alloc,
            _ => Mode::Throughput,
        };
        let size = self.size.unwrap_or(match (mode, self.qos) {
            (Mode::Throughput, Cube::Raw) => 1_400,
            // Fits before the path's MTU is known.
            (Mode::Throughput, Cube::Message) => 1_100,
            (Mode::Throughput, Cube::Stream) => 16_384,
            _ => 64,
        });
        Params { mode, size, time: self.time, reverse: self.reverse, batch: self.batch }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    tool::seconds("time", text, 0.01..=MAX_TIME.as_secs_f64(), "2.5")
}

fn size(text: &str) -> Result<u32, String> {
    let range = sdu::MIN..=sdu::MAX;
    text.parse().ok().filter(|size| range.contains(&(*size as usize))).ok_or_else(|| {
        format!("an SDU of operf has {} to {} bytes: its first {} are a header", sdu::MIN, sdu::MAX, sdu::MIN)
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
    fn every_documented_command_line_parses() {
        let lines = [
            "operf --listen perf --quiet --layer net --run-dir /tmp/x",
            "operf perf -s 1000 -t 0.5 --reverse --batch --json",
            "operf perf --alloc --parallel 8",
            "operf perf --qos stream --congestion cubic",
            "operf --listen perf --congestion newreno",
            "operf --bare-listen 127.0.0.1:7000",
            "operf --bare [::1]:7000 --rtt -s 64",
            "operf --completions fish",
        ];
        for line in lines {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn sizes_follow_the_test() {
        assert_eq!(parse("operf perf").unwrap().params().size, 1_400);
        let params = parse("operf perf --rtt").unwrap().params();
        assert_eq!((params.mode, params.size), (Mode::Rtt, 64));
        assert_eq!(parse("operf perf --rtt -s 100").unwrap().params().size, 100);
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        let lines = [
            "operf",
            "operf perf --listen perf",
            "operf perf --rtt --alloc",
            "operf perf --rtt --batch",
            "operf perf --parallel 2",
            "operf --bare 127.0.0.1:7000 --alloc",
            "operf perf -s 15",
            "operf perf -t 0",
            "operf perf -t 99999",
            "operf --bare nowhere",
        ];
        for line in lines {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}

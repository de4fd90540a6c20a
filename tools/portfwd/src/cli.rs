//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::said::end::End;
use crate::said::rule::Rule;

const AFTER_HELP: &str = "\
Ends, to listen at or to forward to:
  7005, 10.0.0.1:7005, [fd00::1]:7005, host:7005, 8000-8099   TCP
  udp:5353, udp:10.0.0.1:53                                   UDP
  unix:/path, unix:@name                                      Unix sockets
  flow:NAME                                                   flows; several connections go through one

A FILE has lines LISTEN -> TARGET, or rules with options as TOML (docs/portfwd.md).

Exit codes:
  0  done; the forwarder was stopped
  1  it could not be done; standard error says why
  2  wrong usage
  3  stop, status, reload: no portfwd runs there

Examples:
  portfwd 7005 192.168.0.1 8005
  portfwd 7005 192.168.0.1:8005
  portfwd 7005 flow:web                    on one host
  portfwd flow:web 127.0.0.1:8080          on another
  portfwd start rules.conf                 in the background; then portfwd status, reload, stop";

/// Forwards ports: TCP, UDP, Unix sockets and flows to each other.
#[derive(Clone, Debug, Parser)]
#[command(name = "portfwd", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do with the forwarder in the background.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// In the foreground.
    #[command(flatten)]
    pub run: Run,
    /// Print completions for a shell
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub completions: Option<clap_complete::Shell>,
}

/// What to do with the forwarder in the background.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Forward in the background
    Start(Run),
    /// End the forwarder in the background, once its connections are over
    Stop {
        /// How long connections may go on, such as 30s [default: that of start, or of the file; 30s]
        #[arg(long, value_name = "TIME", value_parser = time)]
        drain: Option<Duration>,
        /// End connections at once
        #[arg(long, conflicts_with = "drain")]
        now: bool,
        /// Where it runs.
        #[command(flatten)]
        place: Place,
    },
    /// Show its rules and connections
    Status {
        /// Show so many connections at most
        #[arg(short, long, value_name = "N", default_value_t = 20)]
        connections: usize,
        /// As JSON, with all connections
        #[arg(long)]
        json: bool,
        /// Where it runs.
        #[command(flatten)]
        place: Place,
    },
    /// Make it read its file of rules again; open connections go on
    Reload {
        /// Where it runs.
        #[command(flatten)]
        place: Place,
    },
    /// Say what is wrong with a file of rules, or print the rules it stands for
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Where a forwarder in the background is found.
#[derive(Args, Clone, Debug, Default)]
pub struct Place {
    /// Folder of the sockets of irmd and of portfwd itself [else $FLOWRING_RUN_DIR, /run/flowring as root,
    /// $XDG_RUNTIME_DIR/flowring]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

/// How to forward.
#[derive(Args, Clone, Debug, Default)]
pub struct Run {
    /// FILE, or LISTEN TARGET, or a port, a host and its port [default: the FILE /etc/flowring/portfwd.toml as root,
    /// ~/.config/flowring/portfwd.toml]
    #[arg(value_name = "WORDS", num_args = 0..=3)]
    pub words: Vec<String>,
    /// The file of rules
    #[arg(short, long, value_name = "FILE", conflicts_with = "words")]
    pub config: Option<PathBuf>,
    /// Read the file again whenever it changes
    #[arg(long)]
    pub watch: bool,
    /// Threads that forward [default: one for each processor, 4 at most]
    #[arg(long, value_name = "N", value_parser = workers)]
    pub workers: Option<NonZeroU16>,
    /// Serve metrics for Prometheus over HTTP, such as 127.0.0.1:9105
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// How long connections may go on after SIGTERM [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub drain: Option<Duration>,
    /// What to log: error, warn, info, debug, or a filter. Connections are info, each a line; portfwd::connection=off leaves
    /// them out
    #[arg(long, value_name = "FILTER", default_value = "info", env = "FLOWRING_LOG")]
    pub log: String,
    /// Log into this file, which is begun anew when it has 16 MB [default: standard error; with start portfwd.log in the run
    /// directory]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Where the sockets are.
    #[command(flatten)]
    pub place: Place,
    /// This is the process in the background.
    #[arg(long, hide = true)]
    pub detached: bool,
}

/// Where rules come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From a file, again and again.
    File(PathBuf),
    /// From the command line.
    Rule(Box<Rule>),
    /// From the file that is there by default.
    Default,
}

impl Run {
    /// Where the rules come from, or what is wrong with the words.
    pub fn source(&self) -> Result<Source, String> {
        if let Some(file) = &self.config {
            return Ok(Source::File(file.clone()));
        }
        let end = |word: &str| word.parse::<End>().map_err(|error| error.to_string());
        match self.words.as_slice() {
            [] => Ok(Source::Default),
            [file] => Ok(Source::File(file.into())),
            [listen, target] => Ok(Source::Rule(Box::new(Rule::new(end(listen)?, vec![end(target)?])))),
            [listen, host, port, ..] => {
                let host =
                    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
                Ok(Source::Rule(Box::new(Rule::new(end(listen)?, vec![end(&format!("{host}:{port}"))?]))))
            }
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    service::values::time(text)
}

fn workers(text: &str) -> Result<NonZeroU16, String> {
    let number = text.parse::<NonZeroU16>().ok().filter(|number| number.get() <= 64);
    number.ok_or_else(|| format!("'{text}' is no number of threads; give 1 to 64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn source(line: &str) -> Result<Source, String> {
        parse(line).unwrap().run.source()
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn rules_are_given_as_the_seed_does_or_as_ends_or_in_a_file() {
        let rule = |text: &str| {
            let (listen, target) = text.split_once(" -> ").unwrap();
            Ok(Source::Rule(Box::new(Rule::new(listen.parse().unwrap(), vec![target.parse().unwrap()]))))
        };
        assert_eq!(source("portfwd 7005 192.168.0.1 8005"), rule("7005 -> 192.168.0.1:8005"));
        assert_eq!(source("portfwd 7005 fd00::1 8005"), rule("7005 -> [fd00::1]:8005"));
        assert_eq!(source("portfwd 7005 web.example 8005"), rule("7005 -> web.example:8005"));
        assert_eq!(source("portfwd 7005 flow:web"), rule("7005 -> flow:web"));
        assert_eq!(source("portfwd udp:53 udp:10.0.0.1:53"), rule("udp:53 -> udp:10.0.0.1:53"));
        assert_eq!(source("portfwd rules.conf"), Ok(Source::File("rules.conf".into())));
        assert_eq!(source("portfwd --config start"), Ok(Source::File("start".into())));
        assert_eq!(source("portfwd"), Ok(Source::Default));
        assert!(source("portfwd 70055 10.0.0.1:80").unwrap_err().contains("'70055' is no port"));
        let Some(Command::Start(run)) = parse("portfwd start 7005 192.168.0.1 8005 --watch").unwrap().command else {
            panic!("no start");
        };
        assert_eq!(run.source(), rule("7005 -> 192.168.0.1:8005"));
    }

    #[test]
    fn nonsense_is_refused_as_usage() {
        let lines = [
            "portfwd 1 2 3 4",
            "portfwd --config a b",
            "portfwd 7005 80 --workers 0",
            "portfwd 7005 80 --workers 65",
            "portfwd 7005 80 --drain 5",
            "portfwd stop --now --drain 1s",
            "portfwd check",
        ];
        for line in lines {
            assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
        }
    }
}

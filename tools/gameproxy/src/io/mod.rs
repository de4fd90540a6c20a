//! What is done: sockets, flows, threads.
#![expect(clippy::disallowed_methods, reason = "io/: random seeds")]

mod clock;
mod core;
mod dial;
mod edge;
mod far;
mod local;
mod near;
mod orders;
mod outbox;
mod road;
mod serve;
mod start;
mod tally;
mod upstream;
mod wait;

use std::process::ExitCode;

pub use self::core::Seen;
pub use self::orders::Report;
pub use self::tally::Counts;
use crate::cli::{Cli, Command};

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    match act(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "gameproxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: Cli) -> anyhow::Result<()> {
    if let Some(shell) = cli.completions {
        use std::io::Write as _;
        return Ok(std::io::stdout().write_all(tool::completions::<Cli>(shell).as_bytes())?);
    }
    match cli.command {
        None => Ok(()),
        Some(Command::Local { rules, run }) => start::local(&rules, &run),
        Some(Command::Client { server, carrier, rules, run }) => start::client(&server, carrier, &rules, &run),
        Some(Command::Server { inetd: true, rules, run, .. }) => start::inetd(&rules, &run),
        Some(Command::Server { name, carrier, rules, run, .. }) => {
            start::server(&name.unwrap_or_default(), carrier, &rules, &run)
        }
    }
}

/// Random bits to begin with.
fn seed() -> u64 {
    let mut seed = [0; 8];
    // Without the system's randomness delays are as random as the process' number.
    match getrandom::fill(&mut seed) {
        Ok(()) => u64::from_ne_bytes(seed),
        Err(_) => std::process::id().into(),
    }
}

//! What is done: sockets, flows, threads.

use std::process::ExitCode;

use crate::cli::Cli;

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    if let Some(shell) = cli.completions {
        let _ = std::io::Write::write_all(&mut std::io::stdout(), tool::completions::<Cli>(shell).as_bytes());
    }
    ExitCode::SUCCESS
}

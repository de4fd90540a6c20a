//! `flowtop`: a host's flows on a terminal, as they move.
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    flowtop::run(flowtop::cli::Cli::parse())
}

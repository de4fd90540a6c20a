//! `portfwd`: forwards ports, sockets and flows to each other.
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    portfwd::run(portfwd::cli::Cli::parse())
}

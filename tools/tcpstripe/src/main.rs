//! `tcpstripe`: one TCP connection over many tracks.
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    tcpstripe::run(tcpstripe::cli::Cli::parse())
}

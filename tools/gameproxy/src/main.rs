//! `gameproxy`: carries game datagrams from players to servers.
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    gameproxy::run(gameproxy::cli::Cli::parse())
}

//! `oping`: is a name there, and how far away is it?
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    oping::run(oping::cli::Cli::parse())
}

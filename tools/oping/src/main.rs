//! `oping`: is a name there, and how far away is it?
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let _ = oping::cli::Cli::parse();
    ExitCode::SUCCESS
}

//! `rendezvous`: where hosts behind NATs find each other.
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    rendezvous::run(rendezvous::cli::Cli::parse())
}

//! `irm`: asks irmd about names, IPCPs and flows, and changes them.
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    irm::run(irm::cli::Cli::parse())
}

//! `operf`: how fast is a flow?
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    operf::run(operf::cli::Cli::parse())
}

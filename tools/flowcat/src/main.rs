//! `flowcat`: standard input and output over a flow.
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    flowcat::run(flowcat::cli::Cli::parse())
}

//! `flowdump`: what Flowring's hosts said to each other, from captures.
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    flowdump::run(&flowdump::cli::Cli::parse())
}

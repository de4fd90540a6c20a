//! Chores of the project: `cargo demo`, `cargo xtask lab`, `cargo xtask fuzz`, `cargo xtask bench flow` and its other kinds.

mod bench;
mod console;
mod deb;
mod demo;
mod fuzz;
mod man;
mod picture;
mod playground;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Two hosts on this machine: flows by name, both ways. No root, no configuration
    Demo(demo::Options),
    /// Hosts with bad links and behind middleboxes, to play with by hand
    Lab(playground::Options),
    /// Measure flows beside bare sockets, into docs/bench.md
    Bench(bench::Options),
    /// Draw flowtop, looking at five live flows, into docs/
    Picture(picture::Options),
    /// Feed the decoders and machines with hostile input
    Fuzz(fuzz::Options),
    /// Write the man pages of all programs
    Man(man::Options),
    /// Make a Debian package of the whole
    Deb(deb::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Demo(options) => demo::run(&options),
        Chore::Lab(options) => playground::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Picture(options) => picture::run(&options),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Man(options) => man::run(&options),
        Chore::Deb(options) => deb::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

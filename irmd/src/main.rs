//! irmd: see the library.

use std::process::ExitCode;

use clap::Parser;
use irmd::cli::Cli;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("irmd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    logs::start(&cli.log, cli.log_format).map_err(|error| anyhow::anyhow!(error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // As a task of its own: what wakes the future of `block_on` goes through the kernel each time.
    let work = runtime.spawn(irmd::io::run(cli.into()));
    runtime.block_on(work)?
}

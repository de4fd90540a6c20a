//! What `oping` does: allocates or accepts flows, sends, receives, prints.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

mod client;
mod print;
mod server;

use std::process::ExitCode;

use libflow::Stack;

use crate::cli::Cli;

/// Something came back.
const OK: u8 = 0;
/// Nothing came back, or the flow ended before its time.
const NOTHING: u8 = 1;
/// Wrong usage, irmd not reachable, no flow.
const UNABLE: u8 = 2;

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    if let Some(shell) = cli.completions {
        return ExitCode::from(if print::text(&tool::completions::<Cli>(shell)) { OK } else { NOTHING });
    }
    let code = start(&cli).unwrap_or_else(|why| {
        print::error(&why);
        UNABLE
    });
    ExitCode::from(code)
}

fn start(cli: &Cli) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let stop = tool::Stop::new().map_err(|error| format!("cannot catch signals: {error}"))?;
        let stack = Stack::find(cli.run_dir.as_deref()).map_err(|error| error.to_string())?;
        match (&cli.name, &cli.listen) {
            (_, Some(name)) => server::serve(&stack, name, cli, stop).await,
            (Some(name), None) => client::ping(&stack, name, cli, stop).await,
            (None, None) => Err("give a name, or --listen NAME; see --help".to_owned()),
        }
    })
}

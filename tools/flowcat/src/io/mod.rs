//! What `flowcat` does: allocates or accepts flows, moves bytes, runs commands.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

mod carry;
mod client;
mod pipes;
mod print;
mod pump;
mod server;

use std::process::ExitCode;

use libflow::Stack;

use crate::cli::Cli;
use crate::machine::conversation::Verdict;

/// All is complete.
const OK: u8 = 0;
/// Something is not.
const BROKEN: u8 = 1;
/// No flow.
const UNABLE: u8 = 3;

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    if let Some(shell) = cli.completions {
        return ExitCode::from(if print::text(&tool::completions::<Cli>(shell)) { OK } else { BROKEN });
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
    let code = runtime.block_on(async {
        let stop = tool::Stop::new().map_err(|error| format!("cannot catch signals: {error}"))?;
        let stack = Stack::find(cli.run_dir.as_deref()).map_err(|error| error.to_string())?;
        match (&cli.name, &cli.listen) {
            (_, Some(name)) => server::serve(&stack, name, cli, stop).await,
            (Some(name), None) => client::connect(&stack, name, cli, stop).await,
            (None, None) => Err("give a name, or --listen NAME; see --help".to_owned()),
        }
    });
    // A read from the terminal may still be under way, and never return.
    runtime.shutdown_background();
    code
}

/// Says what came of a conversation; its exit code.
fn tell(verdict: &Verdict) -> u8 {
    for words in &verdict.words {
        print::error(words);
    }
    if verdict.whole { OK } else { BROKEN }
}

//! What `flowtop` does: asks irmd, reads keys, draws.
#![expect(clippy::disallowed_methods, reason = "io/: the clock and timers")]

mod irmd;
mod live;
mod once;
mod place;
mod print;
mod source;
mod terminal;

use std::process::ExitCode;
use std::time::Instant;

use proto::{FlowId, RunDir};

use crate::cli::Cli;
use crate::machine::order::Sort;
use crate::machine::screen::{Pane, Screen, Start};

/// The user quit, the frame was printed.
const OK: u8 = 0;
/// The terminal or the output went away; there is nothing to show.
const BROKEN: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// irmd is not reachable.
const UNABLE: u8 = 3;

/// Why it ended before its time: the exit code, and a sentence.
type Fault = (u8, String);

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    let code = start(&cli).unwrap_or_else(|(code, why)| {
        print::error(&why);
        code
    });
    ExitCode::from(code)
}

fn start(cli: &Cli) -> Result<u8, Fault> {
    if let Some(shell) = cli.completions {
        return Ok(if print::text(&tool::completions::<Cli>(shell)) { OK } else { BROKEN });
    }
    let run_dir = RunDir::find(cli.run_dir.as_deref()).map_err(|error| (USAGE, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (BROKEN, format!("cannot start: {error}")))?;
    let code = runtime
        .block_on(async { if cli.once { once::run(cli, &run_dir).await } else { live::run(cli, &run_dir).await } });
    // A call to an irmd that does not answer may be under way.
    runtime.shutdown_background();
    code
}

fn screen(cli: &Cli) -> Screen {
    let pane = match (cli.flow, cli.refusals) {
        (Some(id), _) => Pane::Flow(FlowId(id)),
        (None, true) => Pane::Refusals,
        (None, false) => Pane::List,
    };
    let sort = Sort { by: cli.sort, reversed: cli.reverse };
    Screen::new(Instant::now(), Start { interval: cli.interval, filter: cli.filter.clone(), sort, pane })
}

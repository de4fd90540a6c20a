//! What `operf` does: flows and sockets, clocks, printing.
#![expect(clippy::disallowed_methods, reason = "io/: clocks, bare sockets, threads of tests")]

mod alloc_test;
mod bare;
mod bare_test;
mod carrier;
mod client;
mod clock;
mod flow;
mod flow_test;
mod load;
mod print;
mod serve;
mod stream;
mod trip;
mod watch;

use std::process::ExitCode;

use crate::cli::Cli;

/// Measured.
const OK: u8 = 0;
/// Nothing came back, or the flow ended before its time.
const NOTHING: u8 = 1;
/// Wrong usage, irmd not reachable, no flow.
const UNABLE: u8 = 2;

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    ExitCode::from(dispatch(&cli))
}

fn dispatch(cli: &Cli) -> u8 {
    if let Some(shell) = cli.completions {
        return if print::text(&tool::completions::<Cli>(shell)) { OK } else { NOTHING };
    }
    if let Some(peer) = cli.bare {
        return bare_test::measure(peer, &cli.params(), cli.json);
    }
    if let Some(address) = cli.bare_listen {
        return bare_test::listen(address, cli.quiet);
    }
    flow_test::settle(match (&cli.name, &cli.listen) {
        (Some(name), _) => flow_test::measure(name, cli),
        (None, Some(name)) => flow_test::listen(name, cli),
        (None, None) => Err("give a name, or --listen NAME; see --help".to_owned()),
    })
}

//! What `tcpstripe` does: sockets, flows, files, the clock.
#![expect(clippy::disallowed_methods, reason = "io/: sockets, the clock, timers, tasks, random numbers")]

mod adapting;
mod carrier;
mod dial;
mod inbox;
mod local;
mod print;
mod proxy;
mod registry;
mod relay;
mod serve;
mod sockets;
mod status;
mod tie;
mod track;
mod transfer;

use std::path::Path;
use std::process::ExitCode;

use libflow::Stack;

pub use registry::{GroupStatus, Totals};
pub use status::Status;

use crate::cli::{Cli, Command};
use crate::said::config;
use crate::said::rule::Rule;

/// Exit codes, beside 0.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNABLE: u8 = 3;

/// Why a command did not do what it was told, and the exit code that says so.
struct Failure(u8, String);

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, why)) => {
            if !why.is_empty() {
                print::log(&why);
            }
            ExitCode::from(code)
        }
    }
}

fn start(cli: Cli) -> Result<(), Failure> {
    let run_dir = cli.run_dir.as_deref();
    match cli.command {
        Command::Proxy(args) => serve_rules(run_dir, vec![checked(args.rule())?], args.metrics),
        Command::Relay(args) => serve_rules(run_dir, vec![checked(args.rule())?], args.metrics),
        Command::Run { file, metrics } => serve_rules(run_dir, read(&file)?, metrics),
        Command::Check { file } => {
            let rules = read(&file)?.len();
            print::line(&format!(
                "{}: {rules} {}, all sound",
                file.display(),
                if rules == 1 { "rule" } else { "rules" }
            ));
            Ok(())
        }
        Command::Status { json } => runtime()?.block_on(status::show(run_dir, json)),
        Command::Send(args) => runtime()?.block_on(transfer::send(run_dir, args)),
        Command::Recv(args) => runtime()?.block_on(inbox::recv(run_dir, args)),
        Command::Completions { shell } => match print::text(&tool::completions::<Cli>(shell)) {
            true => Ok(()),
            false => Err(Failure(FAILED, String::new())),
        },
    }
}

fn serve_rules(run_dir: Option<&Path>, rules: Vec<Rule>, metrics: Option<std::net::SocketAddr>) -> Result<(), Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(serve::serve(run_dir, rules, metrics));
    runtime.shutdown_background();
    done
}

fn checked(rule: Rule) -> Result<Rule, Failure> {
    rule.check().map_err(|why| Failure(USAGE, why))?;
    Ok(rule)
}

fn read(file: &Path) -> Result<Vec<Rule>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure(USAGE, format!("cannot read {}: {error}", file.display())))?;
    config::parse(&text).map_err(|error| Failure(USAGE, format!("{}: {error}", file.display())))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure(UNABLE, format!("cannot start: {error}")))
}

fn stack(run_dir: Option<&Path>) -> Result<Stack, Failure> {
    Stack::find(run_dir).map_err(|error| Failure(UNABLE, error.to_string()))
}

//! What is done: sockets, flows, threads.
#![expect(clippy::disallowed_methods, reason = "io/: random seeds")]

mod ask;
mod clock;
mod core;
mod dial;
mod edge;
mod far;
mod keep;
mod local;
mod lookups;
mod near;
mod orders;
mod own;
mod ping;
mod report;
mod road;
mod route;
mod serve;
mod start;
mod tally;
mod upstream;
mod wait;

use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use service::control::{self, Unanswered};
use service::end::{Bad, end};
use service::folder::Folder;
use service::print;
use service::source::Source;

pub use self::core::Seen;
pub use self::orders::{Report, WaySeen};
pub use self::tally::Counts;
use crate::cli::{Cli, Command, Role, Which};
use crate::machine::names::Names;
use crate::machine::{explain, show};
use crate::said::control::{Answer, Ask};
use crate::said::file;

/// What this program is called.
const NAME: &str = "gameproxy";

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    end(NAME, act(cli))
}

fn act(cli: Cli) -> Result<(), Bad> {
    if let Some(shell) = cli.completions {
        return Ok(print::text(&tool::completions::<Cli>(shell))?);
    }
    match cli.command {
        None => Ok(()),
        Some(Command::Local { rules, run }) => Ok(start::local(&rules, &run)?),
        Some(Command::Client { server, carrier, rules, run }) => Ok(start::client(&server, carrier, &rules, &run)?),
        Some(Command::Server { inetd: true, rules, run, .. }) => Ok(start::inetd(&rules, &run)?),
        Some(Command::Server { name, carrier, rules, run, .. }) => {
            Ok(start::server(&name.unwrap_or_default(), carrier, &rules, &run)?)
        }
        Some(Command::Status { players, json, which }) => {
            let players = if json { usize::MAX } else { players };
            let texts = ask(&which, &Ask::Status { players })?.into_iter().map(|answer| match answer {
                Answer::Status(status) if json => Ok(format!("{}\n", tool::json(&*status))),
                Answer::Status(status) => Ok(show::status(&status)),
                Answer::Done(words) | Answer::Failed(words) => Err(anyhow!(words)),
            });
            let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
            Ok(print::text(&texts.join(if json { "" } else { "\n" }))?)
        }
        Some(Command::Reload { which }) => told(&which, &Ask::Reload),
        Some(Command::Stop { drain, which }) => {
            let drain_ms = drain.map(|drain| u64::try_from(drain.as_millis()).unwrap_or(u64::MAX));
            told(&which, &Ask::Stop { drain_ms })
        }
        Some(Command::Check { file, client, to, machine }) => {
            let machine = (!machine.is_empty()).then_some(machine);
            Ok(check(&file, &explain::Question { player: client, to, machine })?)
        }
        Some(Command::Ping { at, count, interval }) => Ok(ping::ping(&at, count, interval)?),
    }
}

/// Asks for something that is done or not.
fn told(which: &Which, what: &Ask) -> Result<(), Bad> {
    let mut failed = Vec::new();
    for answer in ask(which, what)? {
        match answer {
            Answer::Failed(words) => failed.push(words),
            Answer::Done(words) if matches!(what, Ask::Reload) => print::text(&format!("{words}\n"))?,
            _ => {}
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow!(failed.join("; ")).into()) }
}

/// What all that run answer, or the one of a role. A client side reads no rules and is not asked to, unless it is named.
fn ask(which: &Which, what: &Ask) -> Result<Vec<Answer>, Bad> {
    let programs: &[&'static str] = match which.role {
        Some(Role::Local) => &["gameproxy-local"],
        Some(Role::Client) => &["gameproxy-client"],
        Some(Role::Server) => &["gameproxy-server"],
        None if *what == Ask::Reload => &["gameproxy-local", "gameproxy-server"],
        None => &["gameproxy-local", "gameproxy-client", "gameproxy-server"],
    };
    let mut answers = Vec::new();
    for program in programs {
        match control::ask(&Folder::find(program, which.place.run_dir.as_deref())?, what) {
            Ok(answer) => answers.push(answer),
            Err(Unanswered::NotRunning) => {}
            Err(Unanswered::Failed(words)) => return Err(anyhow!(words).into()),
        }
    }
    if answers.is_empty() {
        let folder = Folder::find(NAME, which.place.run_dir.as_deref())?;
        let folder = folder.display();
        return Err(Bad::NotRunning(format!("no gameproxy runs on {folder}; start one, or name another --run-dir")));
    }
    Ok(answers)
}

/// What a configuration comes to.
fn check(path: &Path, question: &explain::Question) -> anyhow::Result<()> {
    let file = Source::file(path)?.read(file::File::parse)?;
    let mut names = Names::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for name in file::names(&file.rules) {
        // Not found: what is said tells.
        if let Ok(addresses) = runtime.block_on(lookups::look_up(name)) {
            names.learn(name, &addresses);
        }
    }
    for doubt in file.doubts() {
        print::error(NAME, &format!("{}: {doubt}", path.display()));
    }
    print::text(&match question.player {
        None => explain::rules(&file.rules, &names),
        Some(_) => explain::answer(&file.rules, &names, question),
    })
}

/// Random bits to begin with.
fn seed() -> u64 {
    let mut seed = [0; 8];
    // Without the system's randomness delays are as random as the process' number.
    match getrandom::fill(&mut seed) {
        Ok(()) => u64::from_ne_bytes(seed),
        Err(_) => std::process::id().into(),
    }
}

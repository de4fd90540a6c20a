//! What is done: sockets, files, the clock.

mod chat;
mod config;
mod events;
mod key;
mod screen;
mod serve;
mod sockets;
mod start;

use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use service::control::{self, Unanswered};
use service::end::{Bad, end};
use service::folder::Folder;
use service::print;

use crate::cli::{Cli, Command, Where};
use crate::machine::show;
use crate::said::control::{Answer, Ask};

/// What this program is called.
const NAME: &str = "rendezvous";

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    end(NAME, act(cli))
}

fn act(cli: Cli) -> Result<(), Bad> {
    if let Some(shell) = cli.completions {
        return Ok(print::text(&tool::completions::<Cli>(shell))?);
    }
    match cli.command {
        None => Ok(start::serve(&cli.serve)?),
        Some(Command::Join(options)) => Ok(chat::join(&options)?),
        Some(Command::Key { file }) => Ok(key::make(&file)?),
        Some(Command::Check { file }) => Ok(check(&file)?),
        Some(Command::Status { session, json, place }) => status(session, json, &place),
        Some(Command::Reload { place }) => told(&place, &Ask::Reload),
        Some(Command::Stop { drain, place }) => {
            let drain_ms = drain.map(|drain| u64::try_from(drain.as_millis()).unwrap_or(u64::MAX));
            told(&place, &Ask::Stop { drain_ms })
        }
    }
}

fn status(session: Option<String>, json: bool, place: &Where) -> Result<(), Bad> {
    let status = match ask(place, &Ask::Status { session: session.clone() })? {
        Answer::Status(status) => status,
        Answer::Done(words) | Answer::Failed(words) => return Err(anyhow!(words).into()),
    };
    if let Some(name) = session.filter(|name| !status.sessions.iter().any(|session| session.name == *name)) {
        return Err(anyhow!("there is no session {name:?}; rendezvous status shows those that there are").into());
    }
    let text = if json { format!("{}\n", tool::json(&*status)) } else { show::status(&status) };
    Ok(print::text(&text)?)
}

/// Asks for something that is done or not.
fn told(place: &Where, what: &Ask) -> Result<(), Bad> {
    match ask(place, what)? {
        Answer::Failed(words) => Err(anyhow!(words).into()),
        Answer::Done(words) if *what == Ask::Reload => Ok(print::text(&format!("{words}\n"))?),
        Answer::Done(_) | Answer::Status(_) => Ok(()),
    }
}

fn ask(place: &Where, what: &Ask) -> Result<Answer, Bad> {
    let folder = Folder::find(NAME, place.run_dir.as_deref())?;
    control::ask(&folder, what).map_err(|unanswered| match unanswered {
        Unanswered::NotRunning => {
            Bad::NotRunning(format!("no rendezvous runs on {}; start one, or name another --run-dir", folder.display()))
        }
        Unanswered::Failed(words) => anyhow!(words).into(),
    })
}

/// What a configuration comes to.
fn check(path: &Path) -> anyhow::Result<()> {
    let (_, rules) = config::read(&service::source::Source::file(path)?)?;
    let relay = if rules.relay.is_some() { "with a relay" } else { "without a relay" };
    print::text(&format!("{}, {relay}\n", show::counted(rules.sessions.len() as u64, "session")))
}

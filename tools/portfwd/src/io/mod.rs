//! What is done: sockets, flows, threads.

mod accept;
mod after_target;
mod background;
mod connection;
mod dial;
mod engine;
mod flowing;
mod forwarder;
mod health;
mod listen;
mod live;
mod log;
mod over;
mod proxy;
mod pump;
mod room;
mod roster;
mod running;
mod serve;
mod socket;
mod tls;
mod udp;
mod wire;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use service::control::Unanswered;
use service::end::{Bad, end};
use service::folder::{self, Folder};
use service::source::Source;
use service::{control, logfile, print};

use crate::cli::{self, Cli, Command, Run};
use crate::machine::table;
use crate::said::control::{Answer, Ask};
use crate::said::file::File;

/// What this program is called.
const NAME: &str = "portfwd";

/// Runs a command line to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    end(NAME, act(cli))
}

fn act(cli: Cli) -> Result<(), Bad> {
    if let Some(shell) = cli.completions {
        return Ok(print::text(&tool::completions::<Cli>(shell))?);
    }
    match cli.command {
        None if cli.run.detached => Ok(background::child(&cli.run, source(&cli.run)?)?),
        None => Ok(foreground(&cli.run, source(&cli.run)?)?),
        Some(Command::Start(run)) => {
            source(&run)?;
            Ok(background::start(&run)?)
        }
        Some(Command::Stop { drain, now, place }) => {
            let drain_ms = if now { Some(0) } else { drain.map(|drain| drain.as_millis() as u64) };
            told(place.run_dir.as_deref(), &Ask::Stop { drain_ms })
        }
        Some(Command::Reload { place }) => told(place.run_dir.as_deref(), &Ask::Reload),
        Some(Command::Status { connections, json, place }) => {
            let connections = if json { usize::MAX } else { connections };
            match ask(place.run_dir.as_deref(), &Ask::Status { connections })? {
                Answer::Status(status) if json => Ok(print::text(&format!("{}\n", serde_json::to_string(&status)?))?),
                Answer::Status(status) => Ok(print::text(&table::status(&status))?),
                Answer::Done(words) | Answer::Failed(words) => Err(anyhow!(words).into()),
            }
        }
        Some(Command::Check { file }) => {
            let rules = rules_of(&Source::file(&file)?)?.rules;
            let lines: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
            Ok(print::text(&lines)?)
        }
    }
}

/// Asks for something that is done or not.
fn told(run_dir: Option<&Path>, what: &Ask) -> Result<(), Bad> {
    match ask(run_dir, what)? {
        Answer::Failed(words) => Err(anyhow!(words).into()),
        Answer::Done(words) if matches!(what, Ask::Reload) => Ok(print::text(&format!("{words}\n"))?),
        _ => Ok(()),
    }
}

fn ask(run_dir: Option<&Path>, what: &Ask) -> Result<Answer, Bad> {
    let folder = Folder::find(NAME, run_dir)?;
    control::ask(&folder, what).map_err(|unanswered| match unanswered {
        Unanswered::NotRunning => Bad::NotRunning(format!(
            "no portfwd runs in the background on {}; start one with portfwd start, or name another --run-dir",
            folder.display()
        )),
        Unanswered::Failed(words) => Bad::Failed(anyhow!(words)),
    })
}

/// The rules and where they come from; wrong words are wrong usage.
fn source(run: &Run) -> Result<Rules, Bad> {
    Ok(match run.source().map_err(Bad::Usage)? {
        cli::Source::Rule(rule) => {
            let rules = rule.each().map_err(|error| Bad::Usage(error.to_string()))?;
            Rules { source: Source::words(), file: File { rules, ..Default::default() } }
        }
        cli::Source::File(path) => from_file(&path)?,
        cli::Source::Default => from_file(&default_file()?)?,
    })
}

/// Rules, and where they come from.
pub(crate) struct Rules {
    source: Source,
    file: File,
}

fn from_file(path: &Path) -> anyhow::Result<Rules> {
    let source = Source::file(path)?;
    Ok(Rules { file: rules_of(&source)?, source })
}

/// What a file says; those that it names are found from its folder.
fn rules_of(source: &Source) -> anyhow::Result<File> {
    source.read(|path, text| {
        let mut file = File::parse(path, text)?;
        file.base(path.parent().unwrap_or(Path::new("/")));
        Ok(file)
    })
}

/// The file that is read when none is named.
fn default_file() -> anyhow::Result<PathBuf> {
    let folder = match rustix::process::geteuid().is_root() {
        true => PathBuf::from("/etc"),
        false => {
            let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let home = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
            home.ok_or_else(|| {
                anyhow!("no rules are given and there is no home folder to look in; give LISTEN TARGET or a FILE")
            })?
        }
    };
    let path = folder.join("flowring/portfwd.toml");
    if !path.exists() {
        bail!(
            "no rules are given, and {} is not there; give LISTEN TARGET or a FILE, see portfwd --help",
            path.display()
        );
    }
    Ok(path)
}

/// Forwards until it is told to stop.
fn foreground(run: &Run, rules: Rules) -> anyhow::Result<()> {
    logfile::begin(NAME, &run.log, run.log_file.as_deref())?;
    // Who forwards by hand needs no control socket; who has a file asks for status and reloads.
    let taken = match rules.source.is_file() {
        true => folder::take(NAME, NAME, run.place.run_dir.as_deref()),
        false => None,
    };
    background::forward(run, rules, taken, || ())
}

//! `portfwd start`: the same program in the background, away from the terminal; and what both have in common.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use service::folder::{Folder, Taken};
use service::{control, logfile, page, process};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::engine::Engine;
use super::forwarder::{DRAIN, Forwarder};
use super::{NAME, Rules};
use crate::cli::{Run, Source};
use crate::machine::metrics;
use crate::said::control::Ask;

/// What the process in the background says when all its rules listen.
const READY: &str = "ready";
/// Asks that wait for the forwarder.
const ASKS: usize = 16;

/// Starts the process in the background and returns when all its rules listen.
pub(super) fn start(run: &Run) -> anyhow::Result<()> {
    let folder = Folder::find(NAME, run.place.run_dir.as_deref())?;
    folder.make()?;
    let own = std::env::current_exe().context("the path of portfwd is not known")?;
    let mut command = Command::new(own);
    command.arg("--detached").args(words(run)?);
    // Its own words come through a pipe until it has a log.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
    let mut child = command.spawn().context("the process in the background cannot be started")?;
    let said = child.stdout.take().map(BufReader::new).context("the process in the background has no output")?;
    let mut wrong = String::new();
    for line in said.lines() {
        let line = line.context("the process in the background cannot be heard")?;
        if line == READY {
            return Ok(());
        }
        if !wrong.is_empty() {
            wrong.push(' ');
        }
        wrong += &line;
    }
    if wrong.is_empty() {
        bail!("the process in the background ended without a word; see its log, or run portfwd without start");
    }
    bail!(wrong)
}

/// The same wishes for the process in the background, with paths from /.
fn words(run: &Run) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let mut words: Vec<std::ffi::OsString> = Vec::new();
    let mut path = |option: &str, path: &std::path::Path| -> anyhow::Result<()> {
        words.extend([option.into(), std::path::absolute(path)?.into()]);
        Ok(())
    };
    match run.source() {
        Ok(Source::File(file)) => path("--config", &file)?,
        Ok(Source::Default) => path("--config", &super::default_file()?)?,
        _ => {}
    }
    if let Some(dir) = &run.place.run_dir {
        path("--run-dir", dir)?;
    }
    if let Some(log) = &run.log_file {
        path("--log-file", log)?;
    }
    if run.watch {
        words.push("--watch".into());
    }
    let mut told = |option: &str, value: Option<String>| {
        words.extend(value.map(|value| [option.into(), value.into()]).into_iter().flatten());
    };
    told("--workers", run.workers.map(|workers| workers.to_string()));
    told("--metrics", run.metrics.map(|metrics| metrics.to_string()));
    told("--drain", run.drain.map(|drain| format!("{}ms", drain.as_millis())));
    told("--log", Some(run.log.clone()));
    if let Ok(Source::Rule(_)) = run.source() {
        words.push("--".into());
        words.extend(run.words.iter().map(Into::into));
    }
    Ok(words)
}

/// The process in the background.
pub(super) fn child(run: &Run, rules: Rules) -> anyhow::Result<()> {
    let told = detached(run, rules);
    if let Err(error) = &told {
        // Where `start` still listens it passes this on; the log has it, too.
        let _ = writeln!(std::io::stdout(), "{}", format!("{error:#}").replace('\n', " "));
        tracing::error!("{error:#}");
    }
    told
}

fn detached(run: &Run, rules: Rules) -> anyhow::Result<()> {
    rustix::process::setsid().context("it cannot leave the terminal")?;
    let folder = Folder::find(NAME, run.place.run_dir.as_deref())?;
    let taken = folder.take()?;
    logfile::begin(NAME, &run.log, Some(&run.log_file.clone().unwrap_or_else(|| folder.log())))?;
    forward(run, rules, Some(taken), || {
        let _ = writeln!(std::io::stdout(), "{READY}");
        // The pipe to `start` ends here.
        if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(null);
        }
    })
}

/// Opens all rules and carries them out until it is told to stop.
pub(super) fn forward(run: &Run, rules: Rules, taken: Option<Taken>, ready: impl FnOnce()) -> anyhow::Result<()> {
    process::raise_descriptor_limit();
    let Rules { source, file } = rules;
    let workers = run.workers.or(file.options.workers).map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from).min(4),
        |workers| usize::from(workers.get()),
    );
    let drain = run.drain.or(file.options.drain).unwrap_or(DRAIN);
    let page = run.metrics.or(file.options.metrics).map(page::listen).transpose()?;
    let engine = Engine::start(workers, run.place.run_dir.clone()).context("its threads cannot be started")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut forwarder = Forwarder::open(engine, source, file.rules, drain).await?;
        forwarder.watch = run.watch;
        let (asks, inbox) = mpsc::channel(ASKS);
        // Ends when the forwarder does.
        let mut serving = JoinSet::new();
        if let Some(taken) = &taken {
            serving.spawn(control::serve(control::listen(taken)?, asks.clone()));
        }
        if let Some(page) = page {
            let listener = tokio::net::TcpListener::from_std(page)?;
            serving.spawn(page::serve(
                listener,
                NAME,
                asks.clone(),
                || Ask::Status { connections: 0 },
                |status| metrics::page(status).ok(),
            ));
        }
        let done = forwarder.run(inbox, asks, ready).await;
        drop(taken);
        done
    })
}

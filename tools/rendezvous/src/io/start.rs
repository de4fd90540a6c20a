//! How the server begins and ends.
#![expect(clippy::disallowed_methods, reason = "io/: the seed is random")]

use anyhow::{Context as _, anyhow};
use service::{control, folder, logfile, page, process};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::NAME;
use super::config::Given;
use super::serve::Serving;
use super::sockets::Sockets;
use crate::cli::Serve;
use crate::machine::{Server, metrics};
use crate::said::control::Ask;

/// Asks that wait.
const ASKS: usize = 16;

/// Serves until it is told to stop.
pub(super) fn serve(serve: &Serve) -> anyhow::Result<()> {
    logfile::begin(NAME, &serve.run.log, serve.run.log_file.as_deref())?;
    process::raise_descriptor_limit();
    let given = Given::new(serve)?;
    let (options, rules) = given.read()?;
    let sockets = Sockets::open(&options, rules.relay.is_some())?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("the system has no random bytes: {error}"))?;
    let sessions = rules.sessions.len();
    let server = Server::new(rules, sockets.places().to_vec(), seed);
    let run_dir = serve.run.place.run_dir.as_deref();
    let taken = folder::take(NAME, NAME, run_dir);
    let page = options.metrics.map(page::listen).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("there is no runtime")?;
    runtime.block_on(async {
        let (asks, mut inbox) = mpsc::channel(ASKS);
        let mut serving = JoinSet::new();
        if let Some(taken) = &taken {
            serving.spawn(control::serve(control::listen(taken)?, asks.clone()));
        }
        if let Some(page) = page {
            let listener = tokio::net::TcpListener::from_std(page)?;
            let ask = || Ask::Status { session: None };
            serving.spawn(page::serve(listener, NAME, asks.clone(), ask, |status| metrics::page(status).ok()));
        }
        for place in sockets.places() {
            tracing::info!(sessions, relay = place.relay.is_some(), "listens at {}", place.main);
        }
        Serving::new(server, sockets, given, &options)?.run(&mut inbox).await
    })
}

//! What is **done**: sockets, timers, gRPC, the hand-over. Decisions are [`crate::machine`]'s.
//!
//! One task owns the machine and the flows' sockets (`driver`). Others speak to it over bounded channels: gRPC handlers
//! (`api`), the hand-over server, calls to irmd (`irm`).

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use handoff::server as hand;
use handoff::service::Service;
use proto::RunDir;
use proto::v1::{self, Failure, FailureKind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

mod adopt;
mod api;
mod asking;
mod batch;
mod catcher;
#[cfg(test)]
mod catcher_tests;
mod command;
mod directory;
mod dns;
mod driver;
mod effect;
mod filter;
mod irm;
mod limits;
mod names;
mod network;
mod private;
mod report;
mod router;
mod rows;
mod session;
mod shared;
#[cfg(test)]
mod shared_tests;
mod socket;
mod sockopt;
mod state;
#[cfg(test)]
mod tests;

use crate::config::{Bootstrap, Options, Sp};
use command::Command;
use driver::{Driver, Tools};

/// Calls that wait for the machine's task; more wait in their gRPC handlers.
const COMMANDS: usize = 1024;
/// Calls under way at the end get this long.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Flows that ended or were brought back, of which irmd has not heard yet.
const NEWS: usize = 16_384;

/// Runs an IPCP until `stop`, or until irmd shuts it down. Flows outlive it: it only removes its sockets.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    check_name(&options.name)?;
    let first = options.bootstrap()?;
    let run_dir = RunDir::find(options.run_dir.as_deref())?;
    let state_dir = options.state_dir.clone().unwrap_or_else(|| run_dir.path().join("state"));
    let listener = api::bind(&run_dir.ipcp(&options.name), &options.name).await?;
    let identity = state::identity(&state_dir, &options.name)?;
    let path = run_dir.ipcp_handoff(&options.name);
    let (hand, hand_events) = hand::Server::start(hand::Config::new(&path))
        .with_context(|| format!("the hand-over socket {} cannot be made", path.display()))?;
    let _removed = Removed(vec![run_dir.ipcp(&options.name), path]);

    let irm = irm::Irm::new(&run_dir, &options.name)?;
    let (commands, mut calls) = mpsc::channel(COMMANDS);
    let attached = commands.downgrade();
    let (news, news_queue) = mpsc::channel(NEWS);
    let (bootstrapped, is_bootstrapped) = watch::channel(None);
    let tools = Tools {
        hand,
        hand_events,
        irm: irm.clone(),
        news,
        identity,
        ipcp: options.name.clone(),
        service: Service::new(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(irm.clone().tell(news_queue));
    let (stop_api, api_stops) = oneshot::channel::<()>();
    let mut api = JoinSet::new();
    api.spawn(async move {
        if let Err(error) = api::serve(listener, commands, async { drop(api_stops.await) }).await {
            tracing::error!(%error, "the gRPC socket failed");
        }
    });
    let work = async {
        // It attaches with its layer, if it has one already.
        let mut attach = Some(irm.attach(is_bootstrapped, attached));
        if first.is_none() {
            attach.take().into_iter().for_each(|attach| drop(tasks.spawn(attach)));
        }
        let Some((mut driver, bootstrap)) = driver(tools, first, &mut calls).await? else { return Ok(()) };
        bootstrapped.send_replace(Some(bootstrap));
        attach.into_iter().for_each(|attach| drop(tasks.spawn(attach)));
        driver.run(&mut calls).await
    };
    tokio::select! {
        result = work => result?,
        () = stop => {
            Service::new().stopping();
            return Ok(());
        }
    }
    // Whoever asked for the shutdown hears that it is done.
    drop(stop_api);
    let _ = timeout(LAST_WORDS, api.join_next()).await;
    Ok(())
}

/// A layer, as the command line said or irmd says. `None`: shut down before.
async fn driver(
    tools: Tools,
    first: Option<Bootstrap>,
    calls: &mut mpsc::Receiver<Command>,
) -> anyhow::Result<Option<(Driver, Bootstrap)>> {
    let Some(mut bootstrap) = first else {
        tools.service.ready("waits to be bootstrapped");
        return wait_for_bootstrap(tools, calls).await;
    };
    network::settle(&mut bootstrap).await;
    let driver = Driver::open(tools, &bootstrap)?;
    driver.tools.service.ready(&driver.summary());
    Ok(Some((driver, bootstrap)))
}

/// Answers calls until one of them bootstraps. `None`: shut down before.
async fn wait_for_bootstrap(
    mut tools: Tools,
    calls: &mut mpsc::Receiver<Command>,
) -> anyhow::Result<Option<(Driver, Bootstrap)>> {
    loop {
        let command = tokio::select! {
            command = calls.recv() => command,
            () = tools.service.watchdog() => {
                tools.service.alive("waits to be bootstrapped");
                continue;
            }
        };
        let Some(command) = command else { return Ok(None) };
        match command {
            Command::Bootstrap(mut bootstrap, reply) => {
                network::settle(&mut bootstrap).await;
                let opened = socket::listen(bootstrap.listen, bootstrap.sp == Some(Sp::Listen));
                let host = tools.identity.host;
                let beyond = || Ok((directory::open(&bootstrap)?, session::open(&bootstrap, host)?));
                let (listen, beyond) = match opened.and_then(|listen| Ok((listen, beyond()?))) {
                    Ok(opened) => opened,
                    Err(failure) => {
                        let _ = reply.send(Err(failure));
                        continue;
                    }
                };
                let driver = Driver::with_socket(tools, &bootstrap, listen, beyond)?;
                let _ = reply.send(Ok(v1::BootstrapReply { address: bootstrap.listen.to_string() }));
                return Ok(Some((driver, *bootstrap)));
            }
            Command::Shutdown(reply) => {
                let _ = reply.send(Ok(()));
                return Ok(None);
            }
            Command::Report(reply) => {
                let _ = reply.send(Ok(v1::ReportReply { rss_bytes: limits::rss_bytes(), ..Default::default() }));
            }
            command => command.fail(Failure::new(
                FailureKind::Invalid,
                "the IPCP has no layer yet; bootstrap it with `irm ipcp bootstrap`",
            )),
        }
    }
}

/// The name becomes part of file names.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    anyhow::ensure!(
        !name.is_empty() && name.len() <= 32 && name.chars().all(fine) && !name.starts_with('.'),
        "{name:?} is no name for an IPCP; use at most 32 letters, digits, dots, dashes"
    );
    Ok(())
}

/// Sockets that go with the process.
struct Removed(Vec<PathBuf>);

impl Drop for Removed {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

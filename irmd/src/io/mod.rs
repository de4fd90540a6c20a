//! What irmd does: sockets, timers, gRPC, files, processes. It decides nothing: that is [`crate::machine`]'s.
//!
//! ```text
//!   gRPC handlers ──Ask──► core (owns the machine) ──► replies, hand-over, socket pairs, children, files
//!   hand-over events ────►                         ──► one job per call to an IPCP, one per child
//! ```
//!
//! The core never waits for anything but its inputs: calls to IPCPs are jobs whose answers come back as inputs.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and starts the server's task")]

mod api_admin;
mod api_ipcp;
mod api_irm;
mod callers;
mod calls;
mod core;
mod events;
mod identity;
mod ipcp;
mod known;
mod listing;
mod local;
mod logging;
mod metrics;
mod names;
mod place;
mod places;
mod programs;
mod spawn;
mod state;
mod users;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow};
use handoff::server::Config as HandoffConfig;
use handoff::service;
use proto::v1::irm_admin_server::IrmAdminServer;
use proto::v1::irm_for_ipcp_server::IrmForIpcpServer;
use proto::v1::irm_server::IrmServer;
use proto::{MAX_MESSAGE, RunDir};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use self::api_admin::Tools;
use self::api_ipcp::Ipcps;
use self::api_irm::Programs;
use self::callers::{Caller, Callers};
use self::core::{Core, Inputs};
use crate::config::Config;
use crate::machine::name::Origin;
use crate::machine::{Irm, Settings};

/// Streams that one caller's socket may have open: calls that are not done per flow have one each.
const STREAMS: u32 = 4_096;
/// Accepting pauses this long when descriptors ran out, rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How irmd was called.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--run-dir`.
    pub run_dir: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--ipcpd-dir`.
    pub ipcpd_dir: Option<PathBuf>,
    /// `--leave-ipcps`.
    pub leave_ipcps: bool,
    /// `--metrics`; else as the configuration says.
    pub metrics: Option<SocketAddr>,
    /// `--log`, for the IPCPs it starts; empty: theirs.
    pub log: String,
    /// `--log-format`, for the IPCPs it starts; `None`: theirs.
    pub log_format: Option<logs::Format>,
}

/// Runs the daemon until SIGTERM or SIGINT. Errors are those of the start, and say what to do.
pub async fn run(options: Options) -> anyhow::Result<()> {
    place::keep_descriptors();
    let run_dir = RunDir::find(options.run_dir.as_deref()).map_err(|e| anyhow!(e))?;
    let config = state::configuration(options.config.as_deref())?;
    let place = place::Place::take(&run_dir)?;
    let (run_path, run_dir) = absolute(&run_dir)?;
    place::raise_limit();
    let (state_dir, state) = opened(&options, &run_path)?;
    let made = state.load()?;
    let identity = identity::Identity::open(&state_dir, SystemTime::now())?;

    let metrics = options.metrics.or(config.options.metrics).map(metrics::listen).transpose()?;
    let (handoff, events, listener, own_socket) = listen(&config, &run_dir)?;
    let now = Instant::now();
    let mut irm = machine(now, &run_dir, &state, identity.fingerprint(), [&config, &made]);
    irm.restore_known(state.known()?);

    let (asker, asks, gone) = calls::channel();
    let (pairs, events_out) = (local::Pairs::new(state.ticket_key()), events::Events::new());
    let (links, callers) = (ipcp::Links::default(), Callers::new(unlimited(&config.options)));
    let tools = Tools {
        asker: asker.clone(),
        events: events_out.clone(),
        sockets: pairs.sockets(),
        links: links.clone(),
        handoff: handoff.clone(),
        callers: callers.clone(),
        identity,
        run_dir: run_path.display().to_string(),
        turn: Arc::new(tokio::sync::Semaphore::new(1)),
    };
    let metrics = metrics.map(|listener| metrics::Metrics::start(listener, &tools)).transpose()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, callers, Programs::new(&tools), tools, Ipcps { asker }));
    let mut core = Core {
        irm,
        handoff,
        links,
        children: spawn::Children::new(run_dir.clone(), state_dir, options.ipcpd_dir, options.log, options.log_format),
        pairs,
        events: events_out,
        state,
        calls: HashMap::new(),
        jobs: JoinSet::new(),
        leave_ipcps: options.leave_ipcps,
        service: service::Service::new(),
        shut_down: false,
    };
    core.find_programs(now);
    core.irm.begin(now);
    let stop = stop_signal()?;
    tracing::info!("irmd is ready on {run_dir}");
    core.service.ready(&core.irm.summary());
    core.run(Inputs { asks, gone, events }, stop).await;
    drop(metrics);
    tasks.shutdown().await;
    if own_socket {
        place::leave(&run_dir.irmd());
    }
    drop(place);
    Ok(())
}

fn absolute(run_dir: &RunDir) -> anyhow::Result<(PathBuf, RunDir)> {
    let path = std::path::absolute(run_dir.path())?;
    let run_dir = RunDir::find(Some(&path)).map_err(|e| anyhow!(e))?;
    Ok((path, run_dir))
}

/// The state directory, and what is in it.
fn opened(options: &Options, run_path: &Path) -> anyhow::Result<(PathBuf, state::State)> {
    let state_dir = state::state_dir(options.state_dir.as_deref(), run_path, options.run_dir.is_some())?;
    let state_dir = std::path::absolute(state_dir)?;
    let state = state::State::open(&state_dir, run_path)?;
    Ok((state_dir, state))
}

type Listening = (handoff::server::Server, mpsc::Receiver<handoff::server::Event>, UnixListener, bool);

/// irmd's two sockets: those that a service manager opened, else bound here; last, whether gRPC's file is ours to remove.
fn listen(config: &Config, run_dir: &RunDir) -> anyhow::Result<Listening> {
    let given = place::Given::take()?;
    let leases = leases(&config.options, run_dir);
    let handoff = match given.handoff {
        Some(socket) => handoff::server::Server::start_on(leases, socket),
        None => handoff::server::Server::start(leases),
    };
    let (handoff, events) =
        handoff.with_context(|| format!("cannot listen at {}", run_dir.irmd_handoff().display()))?;
    let (listener, own_socket) = place::listen(&run_dir.irmd(), given.calls)?;
    Ok((handoff, events, listener, own_socket))
}

/// The machine with what it was told before: irmd.toml, and what tools made.
fn machine(
    now: Instant,
    run_dir: &RunDir,
    state: &state::State,
    host_key: String,
    [config, made]: [&Config; 2],
) -> Irm {
    let settings = Settings {
        uid: rustix::process::geteuid().as_raw(),
        pid: std::process::id(),
        host_key,
        handoff: run_dir.irmd_handoff().display().to_string(),
        first_flow: state.first_flow(),
        ticket_key: state.ticket_key(),
        host_ms: handoff::kept::epoch().ms,
        restarted: state.restarted(),
        ..Settings::default()
    };
    let mut irm = Irm::new(now, settings);
    irm.restore(config, Origin::Config);
    irm.restore(made, Origin::Runtime);
    irm
}

/// Users without quotas.
fn unlimited(options: &crate::config::Options) -> Vec<u32> {
    options.quotas(rustix::process::geteuid().as_raw()).unlimited
}

/// Whose leases irmd keeps, and how many.
fn leases(options: &crate::config::Options, run_dir: &RunDir) -> HandoffConfig {
    HandoffConfig {
        max_leases_per_user: options.leases_per_user as usize,
        unlimited_users: unlimited(options),
        ..HandoffConfig::new(run_dir.irmd_handoff())
    }
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Serves gRPC until it is dropped.
async fn serve(listener: UnixListener, callers: Callers, programs: Programs, tools: Tools, ipcps: Ipcps) {
    let (sender, receiver) = mpsc::channel(16);
    let server = Server::builder()
        .max_concurrent_streams(Some(STREAMS))
        // A program that gives up a thousand calls at once is no attacker; the default would cut it off.
        .http2_max_pending_accept_reset_streams(Some(STREAMS as usize))
        .http2_max_local_error_reset_streams(Some(STREAMS as usize))
        .add_service(IrmServer::new(programs).max_decoding_message_size(MAX_MESSAGE))
        .add_service(IrmAdminServer::new(tools).max_decoding_message_size(MAX_MESSAGE))
        .add_service(IrmForIpcpServer::new(ipcps).max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming(ReceiverStream::new(receiver));
    tokio::select! {
        served = server => {
            if let Err(error) = served {
                tracing::error!("irmd serves no more: {error}; restart it");
            }
        }
        () = accept(listener, &callers, sender) => {}
    }
}

/// Accepts callers. Out of descriptors, it waits: whoever is served goes on.
async fn accept(listener: UnixListener, callers: &Callers, let_in: mpsc::Sender<std::io::Result<Caller>>) {
    loop {
        match listener.accept().await.and_then(|(stream, _)| stream.try_into()) {
            Ok(stream) => {
                let Some(caller) = callers.enter(stream) else { continue };
                if let_in.send(Ok(caller)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("no caller is let in for {ACCEPT_PAUSE:?}: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

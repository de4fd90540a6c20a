//! Everything that some rules ask for, until the program is told to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libflow::Congestion;
use tokio::task::JoinSet;

use super::proxy::{self, Proxying};
use super::registry::Registry;
use super::relay::{self, Relaying, Target};
use super::{Failure, UNABLE, print, sockets, stack, status};
use crate::said::end::Via;
use crate::said::rule::{Proxy, Rule};

/// How long groups may take to tell their ends that it is over.
const STOP: Duration = Duration::from_secs(5);

/// SIGINT and SIGTERM end nothing by themselves from now on.
pub(super) fn stop_signals() -> Result<tool::Stop, Failure> {
    tool::Stop::new().map_err(|error| Failure(UNABLE, format!("cannot catch signals: {error}")))
}

/// Serves the rules. Ends in order on SIGINT and SIGTERM: every client and target is reset.
pub(super) async fn serve(
    run_dir: Option<&Path>,
    rules: Vec<Rule>,
    metrics: Option<SocketAddr>,
) -> Result<(), Failure> {
    let unable = |why: String| Failure(UNABLE, why);
    let mut stopped = stop_signals()?;
    let mut tasks = JoinSet::new();
    let mut registries = Vec::new();
    for rule in rules {
        match rule {
            Rule::Proxy(rule) => registries.push(start_proxy(&mut tasks, run_dir, rule).await?),
            Rule::Relay(rule) => {
                let registry = Registry::new(rule.how.max_clients);
                registries.push(registry.clone());
                let from = rule.accept.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
                let name = format!("{from} -> {}", rule.to);
                let relaying = Relaying::new(rule, name.into(), registry, Target::Dialled);
                start_relay(&mut tasks, run_dir, relaying).await?;
            }
        }
    }
    let registries: Arc<[Arc<Registry>]> = registries.into();
    let control = status::listen(run_dir, registries.clone()).map_err(unable)?;
    tasks.spawn(control.serve());
    if let Some(at) = metrics {
        let listener = tokio::net::TcpListener::bind(at).await;
        let listener = listener.map_err(|error| unable(format!("cannot serve metrics on {at}: {error}")))?;
        tasks.spawn(status::serve_metrics(listener, registries.clone()));
    }
    print::line("ready");
    tokio::select! {
        () = stopped.asked() => {}
        // Each runs for ever: one that ended has panicked, and said so.
        _ = tasks.join_next() => return Err(unable("a part of it ended; what it said is above".to_owned())),
    }
    // First no more come.
    tasks.shutdown().await;
    stop(&registries).await;
    Ok(())
}

async fn start_proxy(tasks: &mut JoinSet<()>, run_dir: Option<&Path>, rule: Proxy) -> Result<Arc<Registry>, Failure> {
    let unable = |why: String| Failure(UNABLE, why);
    let stack = if rule.to.iter().all(Via::is_tcp) { None } else { Some(stack(run_dir)?) };
    let listener = sockets::listen(&rule.listen, None, None).await.map_err(unable)?;
    let at = listener.local_addr().map_err(|error| unable(error.to_string()))?;
    let to = rule.to.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    print::line(&format!("listening on {at}, {} tracks over {to}", rule.tracks));
    let registry = Registry::new(rule.how.max_clients);
    let name = format!("{at} -> {to}").into();
    let proxying = Proxying { rule, name, stack, registry: registry.clone() };
    tasks.spawn(proxy::serve(listener, Arc::new(proxying)));
    Ok(registry)
}

/// Takes tracks on all ends of a relay.
pub(super) async fn start_relay(
    tasks: &mut JoinSet<()>,
    run_dir: Option<&Path>,
    relaying: Arc<Relaying>,
) -> Result<(), Failure> {
    let unable = |why: String| Failure(UNABLE, why);
    let congestion = relaying.rule.how.congestion.as_deref();
    for end in &relaying.rule.accept {
        match end {
            Via::Tcp { at, device, .. } => {
                let listener = sockets::listen(at, device.as_deref(), congestion).await.map_err(unable)?;
                let at = listener.local_addr().map_err(|error| unable(error.to_string()))?;
                print::line(&format!("taking tracks on tcp:{at}"));
                tasks.spawn(relay::serve_tcp(listener, relaying.clone()));
            }
            Via::Flow { name, layer } => {
                // The rule was checked: another congestion control is none of ours.
                let congestion: Congestion = congestion.and_then(|name| name.parse().ok()).unwrap_or_default();
                let listen = stack(run_dir)?.listen(name).layers(layer.clone()).congestion(congestion);
                let listener = listen.await.map_err(|error| unable(error.to_string()))?;
                print::line(&format!("taking tracks on flow:{name}"));
                tasks.spawn(relay::serve_flows(listener, relaying.clone()));
            }
        }
    }
    Ok(())
}

/// Every group resets what it connects, and says so on its tracks.
async fn stop(registries: &[Arc<Registry>]) {
    for registry in registries {
        registry.stop();
    }
    drain(registries).await;
}

/// Waits until all groups are over, for a while.
pub(super) async fn drain(registries: &[Arc<Registry>]) {
    let over = async {
        while registries.iter().any(|registry| !registry.is_empty()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Late: their sockets are reset when the program ends.
    let _ = tokio::time::timeout(STOP, over).await;
}

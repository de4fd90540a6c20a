//! `oping --listen NAME`

use std::time::Duration;

use libflow::{AcceptError, Flow, FlowError, Listener, Stack};
use tokio::task::JoinSet;
use tool::Stop;

use super::{OK, print};
use crate::cli::Cli;
use crate::machine::text::printable;

/// Flows served at a time; more wait for their acceptance.
const MAX_FLOWS: usize = 20_000;

/// Without descriptors, or without irmd: how long until the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves the name until told to stop.
pub(super) async fn serve(stack: &Stack, name: &str, cli: &Cli, mut stop: Stop) -> Result<u8, String> {
    let listener = tokio::select! {
        listener = listen(stack, name, cli) => listener?,
        () = stop.asked() => return Ok(OK),
    };
    if !cli.quiet {
        print::line(&format!("oping serves {name}"));
    }
    let mut flows = JoinSet::new();
    // Kept over the turns of the loop: dropping it could drop a flow half accepted.
    let next = accept(&listener);
    tokio::pin!(next);
    loop {
        tokio::select! {
            accepted = &mut next, if flows.len() < MAX_FLOWS => {
                if let Some(flow) = accepted? {
                    flows.spawn(echo(flow, cli.quiet));
                }
                next.set(accept(&listener));
            }
            Some(_) = flows.join_next() => {}
            () = stop.asked() => return Ok(OK),
        }
    }
}

async fn listen(stack: &Stack, name: &str, cli: &Cli) -> Result<Listener, String> {
    let listen = stack.listen(name).create(true).register(true).layers(cli.layers.iter().map(String::as_str));
    listen.await.map_err(|error| error.to_string())
}

/// The next flow; `None` if this one came to nothing and another may come.
async fn accept(listener: &Listener) -> Result<Option<Flow>, String> {
    match listener.accept().await {
        Ok(flow) => Ok(Some(flow)),
        Err(AcceptError::Gone { .. } | AcceptError::TimedOut(_)) => Ok(None),
        Err(error @ AcceptError::NotPermitted { .. }) => Err(error.to_string()),
        Err(error) => {
            // irmd may be restarted, descriptors may come free. A pause, because trying again at once may fail at once.
            print::error(&error.to_string());
            tokio::time::sleep(PAUSE).await;
            Ok(None)
        }
    }
}

/// Sends back what comes, until the flow is gone.
async fn echo(flow: Flow, quiet: bool) {
    if !quiet {
        print::line(&arrival(&flow));
    }
    let mut room = vec![0; flow.sdu_limit().clamp(2_048, 65_536)];
    let why = loop {
        let echoed = match flow.recv(&mut room).await {
            Ok(len) => flow.send(&room[..len]).await,
            Err(error) => Err(error),
        };
        match echoed {
            Ok(()) | Err(FlowError::Truncated { .. } | FlowError::TooLong { .. }) => {}
            Err(FlowError::Gone(reason)) => break reason.to_string(),
            Err(error) => break error.to_string(),
        }
    };
    if !quiet {
        let stats = flow.stats();
        let (sdus, bytes) = (stats.sdus_received, stats.bytes_received);
        print::line(&format!("flow {} ended after {sdus} SDUs, {bytes} bytes: {}", flow.id(), printable(&why)));
    }
}

fn arrival(flow: &Flow) -> String {
    let peer = flow.peer();
    let source = if peer.source.is_empty() { "an unnamed program" } else { &peer.source };
    let from = if peer.address.is_empty() { String::new() } else { format!(" at {}", peer.address) };
    printable(&format!("flow {} from {source}{from} over {}", flow.id(), peer.layer))
}

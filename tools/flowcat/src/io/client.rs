//! `flowcat NAME`

use libflow::{Flow, Qos, Stack};
use tool::Stop;

use super::{BROKEN, carry, pipes, tell};
use crate::cli::Cli;
use crate::machine::conversation::Side;

/// Allocates a flow and carries it to its end.
pub(super) async fn connect(stack: &Stack, name: &str, cli: &Cli, mut stop: Stop) -> Result<u8, String> {
    let carried = async {
        let flow = alloc(stack, name, cli).await?;
        let pipes = match &cli.exec {
            Some(command) => pipes::command(command, &flow)?,
            None => pipes::stdio()?,
        };
        Ok(tell(&carry::carry(flow, Side::Asking, pipes, cli).await))
    };
    tokio::select! {
        code = carried => code,
        // Dropped halves reset what was not finished: the peer does not take it for all.
        () = stop.asked() => Ok(BROKEN),
    }
}

async fn alloc(stack: &Stack, name: &str, cli: &Cli) -> Result<Flow, String> {
    let qos = match (cli.message, cli.raw) {
        (true, _) => Qos::message(),
        (_, true) => Qos::raw(),
        _ => Qos::stream(),
    };
    let mut alloc = stack.alloc(name).qos(qos).source("flowcat");
    match cli.layers.as_slice() {
        [] => {}
        [layer] => alloc = alloc.layer(layer),
        _ => return Err("a flow goes over one layer; give --layer once".to_owned()),
    }
    if let Some(timeout) = cli.alloc_timeout {
        alloc = alloc.timeout(timeout);
    }
    alloc.await.map_err(|error| error.to_string())
}

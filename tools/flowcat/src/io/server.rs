//! `flowcat --listen NAME`

use std::sync::Arc;
use std::time::Duration;

use libflow::{AcceptError, Cube, Flow, Listener, Stack};
use tokio::task::JoinSet;
use tool::Stop;

use super::{BROKEN, OK, carry, pipes, print, tell};
use crate::cli::Cli;
use crate::machine::conversation::{Side, Verdict};

/// Commands run at a time; more flows wait for their acceptance.
const MAX_COMMANDS: usize = 1_000;

/// Without descriptors, or without irmd: how long until the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves the name: one flow, or until told to stop.
pub(super) async fn serve(stack: &Stack, name: &str, cli: &Cli, mut stop: Stop) -> Result<u8, String> {
    let served = async {
        let listen = stack.listen(name).create(true).register(true).layers(cli.layers.iter().map(String::as_str));
        let listener = listen.await.map_err(|error| error.to_string())?;
        match &cli.exec {
            Some(command) if cli.keep => run_many(&listener, command, cli).await,
            _ => run_one_by_one(&listener, cli).await,
        }
    };
    tokio::select! {
        code = served => code,
        () = stop.asked() => Ok(if cli.keep { OK } else { BROKEN }),
    }
}

/// One flow after the other on one pair of pipes, or one only.
async fn run_one_by_one(listener: &Listener, cli: &Cli) -> Result<u8, String> {
    loop {
        let flow = next(listener, cli).await?;
        let pipes = match &cli.exec {
            Some(command) => pipes::command(command, &flow)?,
            None => pipes::stdio()?,
        };
        let code = tell(&carry::carry(flow, Side::Accepting, pipes, cli).await);
        if !cli.keep {
            return Ok(code);
        }
    }
}

/// A command for each flow.
async fn run_many(listener: &Listener, command: &str, cli: &Cli) -> Result<u8, String> {
    // One line of progress cannot show many flows.
    let each = Arc::new(Cli { progress: false, ..cli.clone() });
    let mut running = JoinSet::new();
    // Kept over the turns of the loop: dropping it could drop a flow half accepted.
    let accepting = next(listener, cli);
    tokio::pin!(accepting);
    loop {
        tokio::select! {
            flow = &mut accepting, if running.len() < MAX_COMMANDS => {
                running.spawn(run(command.to_owned(), flow?, each.clone()));
                accepting.set(next(listener, cli));
            }
            Some(_) = running.join_next() => {}
        }
    }
}

async fn run(command: String, flow: Flow, cli: Arc<Cli>) {
    let verdict = match pipes::command(&command, &flow) {
        Ok(pipes) => carry::carry(flow, Side::Accepting, pipes, &cli).await,
        Err(words) => Verdict { whole: false, words: vec![words] },
    };
    tell(&verdict);
}

/// The next flow of a wanted kind.
async fn next(listener: &Listener, cli: &Cli) -> Result<Flow, String> {
    loop {
        let accepted = match wanted(cli) {
            None => listener.accept().await.map(Some),
            Some(cube) => accept_only(listener, cube).await,
        };
        match accepted {
            Ok(Some(flow)) => return Ok(flow),
            // This one came to nothing, another may come.
            Ok(None) | Err(AcceptError::Gone { .. } | AcceptError::TimedOut(_)) => {}
            Err(error @ AcceptError::NotPermitted { .. }) => return Err(error.to_string()),
            Err(error) => {
                // irmd may be restarted, descriptors may come free. A pause, because trying again at once may fail at once.
                print::error(&error.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The only kind of flow that is served; `None`: every kind.
fn wanted(cli: &Cli) -> Option<Cube> {
    match (cli.stream, cli.message, cli.raw) {
        (true, ..) => Some(Cube::Stream),
        (_, true, _) => Some(Cube::Message),
        (.., true) => Some(Cube::Raw),
        _ => None,
    }
}

async fn accept_only(listener: &Listener, cube: Cube) -> Result<Option<Flow>, AcceptError> {
    let incoming = listener.incoming().await?;
    if incoming.qos().cube == cube {
        return incoming.accept().await.map(Some);
    }
    incoming.refuse(&format!("flowcat serves {} flows here; ask for one", cube.as_str())).await?;
    Ok(None)
}

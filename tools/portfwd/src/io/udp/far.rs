//! `flow:NAME -> udp:10.0.0.1:53`: from message flows to sockets, one for each client that has a number in a flow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libflow::{Batch as Messages, Cube, Flow, FlowError, Incoming, Listener};
use proto::forward::Broken;
use proto::forward::datagram::{Message, Said};
use tokio::io::Interest;
use tokio::task::JoinSet;
use tool::watched;

use super::batch::Batch;
use super::upward::{From, Upward, datagrams};
use super::{Rules, changed, until};
use crate::io::accept::cut;
use crate::io::running::Running;
use crate::io::worker::Worker;
use crate::machine::cause::Cause;

/// How long no flow is accepted where that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Flows of a rule.
const FLOWS: usize = 1024;

/// Serves until the rule is taken away; then its sessions end.
pub(crate) async fn serve(worker: Arc<Worker>, mut rules: Rules, listener: Listener) {
    let mut phase = worker.phase();
    let mut flows = JoinSet::new();
    loop {
        tokio::select! {
            () = cut(&mut phase) => break,
            running = changed(&mut rules) => if running.is_none() { break },
            Some(_) = flows.join_next() => {}
            incoming = listener.incoming(), if flows.len() < FLOWS => match incoming {
                Ok(incoming) => {
                    flows.spawn(flow(worker.clone(), rules.clone(), incoming));
                }
                Err(error) => {
                    if let Some(running) = &*rules.borrow() {
                        tracing::warn!("rule {}: no flow can be accepted: {error}", running.rule.name);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Each sees by itself that the rule is gone.
    while flows.join_next().await.is_some() {}
}

async fn flow(worker: Arc<Worker>, rules: Rules, incoming: Incoming) {
    let cube = incoming.qos().cube;
    if cube != Cube::Message {
        let _ = incoming
            .refuse(&format!("a forwarder of datagrams serves this name, and no {} flows", cube.as_str()))
            .await;
        return;
    }
    let (flow, running) = match (incoming.accept().await, rules.borrow().clone()) {
        (Ok(flow), Some(running)) => (flow, running),
        (Err(error), _) => return tracing::debug!("a flow came to nothing: {error}"),
        (Ok(_), None) => return,
    };
    let name = running.rule.name.clone();
    if let Err(error) = Box::pin(run(&worker, rules, running, &flow)).await {
        tracing::warn!("rule {name}: a flow of datagrams is given up: {error}");
    }
}

async fn run(worker: &Arc<Worker>, mut rules: Rules, running: Arc<Running>, flow: &Flow) -> std::io::Result<()> {
    let mut phase = worker.phase();
    let mut upward = Upward::<u32>::new(running, worker.clone())?;
    let ready = watched(upward.epoll()?, Interest::READABLE)?;
    let (mut messages, mut message) = (Messages::new(), Vec::with_capacity(2048));
    let cause = loop {
        tokio::select! {
            () = cut(&mut phase) => break Cause::plain(Broken::Stopped),
            running = changed(&mut rules) => match running {
                Some(running) => upward.change(running),
                None => break Cause::plain(Broken::Stopped),
            },
            () = until(upward.poll_timeout()) => upward.expire(Instant::now()),
            said = flow.recv_batch(&mut messages) => match said {
                Ok(_) => {
                    take(&mut upward, &messages);
                    tell_refused(&mut upward, flow, &mut message);
                }
                Err(error) => break Cause::said(Broken::FlowGone, error),
            },
            guard = ready.readable() => {
                let mut guard = guard?;
                let deliver = |running: &Running, batch: &Batch, keys: &[(usize, u32)]| {
                    answer(running, flow, batch, keys, &mut message);
                };
                if !upward.turn(Instant::now(), deliver, |_| ())? {
                    guard.clear_ready();
                }
                drop(guard);
                tell_refused(&mut upward, flow, &mut message);
                tokio::task::yield_now().await;
            }
        }
    };
    upward.end(&cause);
    Ok(())
}

/// What the near side says goes to the target.
fn take(upward: &mut Upward<u32>, messages: &Messages) {
    let now = Instant::now();
    for message in messages.iter() {
        let (key, client, datagram) = match Message::decode(message) {
            Some(Message { client, said: Said::Data(datagram) }) => (client, None, datagram),
            Some(Message { client, said: Said::First(address, datagram) }) => (client, address, datagram),
            Some(Message { said: Said::Refused(_), .. }) | None => {
                upward.running.counters.dropped("no forwarder's message", 1);
                continue;
            }
        };
        upward.forward(now, From { key, client, listener: None }, datagram, 0);
    }
}

/// What the target says goes to the near side.
fn answer(running: &Running, flow: &Flow, batch: &Batch, keys: &[(usize, u32)], message: &mut Vec<u8>) {
    for (place, client) in keys {
        let (received, bytes) = batch.get(*place);
        for datagram in datagrams(&received, bytes) {
            message.clear();
            Message { client: *client, said: Said::Data(datagram) }.encode(message);
            match flow.try_send(message) {
                Ok(()) => {}
                Err(FlowError::WouldBlock) => running.counters.dropped("flow's queue full", 1),
                Err(FlowError::Gone(_)) => running.counters.dropped("no flow", 1),
                Err(_) if message.len() > flow.sdu_limit() => running.counters.dropped("too long", 1),
                Err(_) => running.counters.dropped("failed", 1),
            }
        }
    }
}

/// Clients whose target is not there.
fn tell_refused(upward: &mut Upward<u32>, flow: &Flow, message: &mut Vec<u8>) {
    for (client, verdict) in upward.refused() {
        message.clear();
        Message { client, said: Said::Refused(verdict) }.encode(message);
        // It may be lost on the way, too: the next datagram is refused again.
        let _ = flow.try_send(message);
    }
}

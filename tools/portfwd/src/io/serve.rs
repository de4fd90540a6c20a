//! Connections over flows, from the side that serves a name: each stream of each flow is one.

use std::sync::Arc;
use std::time::Duration;

use libflow::{AcceptError, Cube, Flow, Incoming, Listener, Reason, Stream, StreamError};
use proto::forward::{Answer, Broken, HEAD, Malformed, Opening, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::accept::{all, cut};
use super::connection::{Entry, now, target};
use super::live::Live;
use super::pump::Pump;
use super::running::{Place, Running};
use super::wire::{LOOK, Wire};
use super::worker::Worker;
use crate::machine::cause::Refusal;

/// A stream says who is to be connected within this time.
const OPENING: Duration = Duration::from_secs(10);
/// How long no stream is taken when descriptors ran out, unless a connection ends before.
const STARVED: Duration = Duration::from_millis(100);

type Rules = watch::Receiver<Option<Arc<Running>>>;

/// Serves until the rule is taken away, and stays until its connections are over.
pub(crate) async fn serve(worker: Arc<Worker>, mut rules: Rules, listener: Listener) {
    let mut phase = worker.phase();
    let mut flows = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closed(&mut rules) => break,
            () = cut(&mut phase) => break,
            Some(_) = flows.join_next() => {}
            incoming = listener.incoming() => match incoming {
                Ok(incoming) => {
                    flows.spawn(flow(worker.clone(), rules.clone(), incoming));
                }
                Err(error) => failed(&rules, &error).await,
            },
        }
    }
    drop(listener);
    tokio::select! {
        biased;
        () = cut(&mut phase) => flows.shutdown().await,
        () = all(&mut flows) => {}
    }
}

async fn closed(rules: &mut Rules) {
    let _ = rules.wait_for(Option::is_none).await;
}

/// Accepting does not work for now: irmd is away, or something ran out.
async fn failed(rules: &Rules, error: &AcceptError) {
    if let Some(running) = &*rules.borrow() {
        tracing::warn!(rule = %running.rule.name, %error, "no flow can be accepted");
    }
    pause(Duration::from_secs(1)).await;
}

/// A flow, from its acceptance to the end of its last stream.
async fn flow(worker: Arc<Worker>, mut rules: Rules, incoming: Incoming) {
    let cube = incoming.qos().cube;
    if cube != Cube::Stream {
        let _ = incoming
            .refuse(&format!("a forwarder of byte streams serves this name, and no {} flows", cube.as_str()))
            .await;
        return;
    }
    let flow = match incoming.accept().await {
        Ok(flow) => flow,
        Err(error) => {
            tracing::debug!(%error, "a flow came to nothing");
            return;
        }
    };
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closed(&mut rules) => break,
            Some(_) = carried.join_next() => {}
            stream = flow.accept_stream() => match stream {
                Ok(stream) => {
                    let Some(running) = rules.borrow().clone() else { break };
                    carried.spawn(carry(stream, running, worker.clone()));
                }
                // The peer has been told.
                Err(StreamError::NoDescriptor) => starved(&worker, &rules).await,
                Err(error) => {
                    tracing::debug!(flow = %flow.id(), %error, "a flow is over");
                    break;
                }
            },
        }
    }
    refuse_rest(flow, carried).await;
}

/// Lets the connections of a flow end; those that still come are told to go elsewhere.
async fn refuse_rest(flow: Flow, mut carried: JoinSet<()>) {
    loop {
        tokio::select! {
            biased;
            done = carried.join_next() => if done.is_none() { break },
            stream = flow.accept_stream() => match stream {
                Ok(stream) => {
                    carried.spawn(async move {
                        let refusal = Refusal::here(Verdict::Stopping, "the rule is being closed");
                        answer(stream, &refusal.answer()).await;
                    });
                }
                Err(_) => {
                    all(&mut carried).await;
                    break;
                }
            },
        }
    }
}

async fn starved(worker: &Worker, rules: &Rules) {
    let running = rules.borrow().clone();
    if let Some(running) = running {
        worker.starved(&running, &rustix::io::Errno::MFILE.into());
    }
    let _ = tokio::time::timeout(STARVED, worker.roster.freed()).await;
}

/// One stream: a connection.
async fn carry(stream: Stream, running: Arc<Running>, worker: Arc<Worker>) {
    // In a box of its own, which is gone when the connection is made.
    let Some(met) = Box::pin(meet(stream, running, &worker)).await else { return };
    let Met { stream, target, entry, _place } = met;
    let outcome = Pump::new(Wire::stream(stream, None), target, entry.live.clone(), now()).await;
    entry.ended(&outcome);
}

/// A stream whose target took the connection.
struct Met {
    stream: Stream,
    target: Wire,
    entry: Entry,
    _place: Place,
}

async fn meet(mut stream: Stream, running: Arc<Running>, worker: &Arc<Worker>) -> Option<Met> {
    let opening = match tokio::time::timeout(OPENING, heard(&mut stream)).await {
        Ok(Ok(opening)) => opening,
        Ok(Err(Some(Malformed::Version(_)))) => {
            answer(stream, &Refusal::here(Verdict::Version, "this forwarder speaks version 1").answer()).await;
            return None;
        }
        Ok(Err(why)) => {
            let why = why.map_or_else(|| "it ended".to_owned(), |why| why.to_string());
            tracing::debug!(rule = %running.rule.name, %why, "a stream is no connection");
            stream.reset(Reason(Broken::Protocol.code()));
            return None;
        }
        Err(_) => {
            stream.reset(Reason(Broken::Protocol.code()));
            return None;
        }
    };
    let admitted = running.admit(opening.client);
    let live = Arc::new(Live::new(running, opening.client, opening.listener, now()));
    let entry = Entry::new(live, worker);
    let place = match admitted {
        Ok(place) => place,
        Err(refusal) => return refuse(stream, entry, &refusal).await,
    };
    let found = tokio::select! {
        biased;
        found = target(&entry.live, worker.number) => Some(found),
        // The far side gave up, or is gone.
        () = gone(&mut stream) => None,
    };
    let target = match found {
        Some(Ok(target)) => target,
        Some(Err(refusal)) => return refuse(stream, entry, &refusal).await,
        None => {
            entry.left();
            return None;
        }
    };
    let said = stream.write_all(&Answer::connected().encode()).await;
    if said.is_err() {
        target.reset(Broken::Reset);
        entry.left();
        return None;
    }
    Some(Met { stream, target, entry, _place: place })
}

/// What the stream begins with; `None`: it ended.
async fn heard(stream: &mut Stream) -> Result<Opening, Option<Malformed>> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await.map_err(|_| None)?;
    let mut fields = vec![0; Opening::length(head)?];
    stream.read_exact(&mut fields).await.map_err(|_| None)?;
    Ok(Opening::decode(&fields)?)
}

/// Waits until nobody waits for this stream any more.
async fn gone(stream: &mut Stream) {
    while let Ok(None) = stream.send.try_stopped() {
        pause(LOOK).await;
    }
}

async fn refuse<T>(stream: Stream, entry: Entry, refusal: &Refusal) -> Option<T> {
    entry.refused(refusal);
    answer(stream, &refusal.answer()).await;
    None
}

/// Says what came of it, and no more.
async fn answer(mut stream: Stream, answer: &Answer) {
    // An error: nobody listens.
    if stream.write_all(&answer.encode()).await.is_ok() {
        let _ = stream.finish();
    }
}

#[expect(clippy::disallowed_methods, reason = "io owns the timers")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

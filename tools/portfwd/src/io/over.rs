//! Connections over flows, from the side that asks: flows that carry many each, a stream for every connection, and what is
//! said at a stream's beginning.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libflow::{AllocError, Flow, Qos, Reason, Stack, Stream, StreamError};
use proto::forward::{Answer, Broken, HEAD, Malformed, Opening, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::machine::cause::{At, Refusal};
use crate::machine::pool::{Effect, FlowKey, Pool, Want};

/// Questions to the task of a pool that are under way.
const ASKS: usize = 1024;

/// The flows of one worker to one name. The last clone that is dropped lets them end with their connections.
#[derive(Clone, Debug)]
pub(crate) struct Flows {
    name: Arc<str>,
    asks: mpsc::Sender<oneshot::Sender<Result<Seat, Refusal>>>,
}

/// A connection's place in a flow.
#[derive(Debug)]
pub(crate) struct Seat {
    flow: Arc<Flow>,
    left: Arc<Left>,
}

/// Places that were given back, until the pool's task counts them.
#[derive(Debug)]
struct Left {
    places: AtomicU32,
    news: Arc<Notify>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.left.places.fetch_add(1, Ordering::Relaxed);
        self.left.news.notify_one();
    }
}

/// How flows are allocated.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) stack: Stack,
    pub(crate) name: Arc<str>,
    /// Tried in this order; none: irmd chooses.
    pub(crate) layers: Vec<String>,
    pub(crate) limit: Duration,
}

impl Asking {
    /// A flow for streams, or for messages.
    pub(crate) async fn alloc(self, qos: Qos) -> Result<Flow, AllocError> {
        let alloc = |layer: Option<&String>| {
            let alloc = self.stack.alloc(&self.name).qos(qos).source("portfwd").timeout(self.limit);
            match layer {
                Some(layer) => alloc.layer(layer),
                None => alloc,
            }
        };
        let Some((last, others)) = self.layers.split_last() else { return alloc(None).await };
        for layer in others {
            if let Ok(flow) = alloc(Some(layer)).await {
                return Ok(flow);
            }
        }
        alloc(Some(last)).await
    }
}

impl Flows {
    /// Flows as `asking` says, of the runtime that this is called in. None is allocated before it is needed.
    #[expect(clippy::disallowed_methods, reason = "the task ends with the last clone")]
    pub(crate) fn new(asking: Asking) -> Self {
        let (asks, inbox) = mpsc::channel(ASKS);
        let name = asking.name.clone();
        tokio::spawn(Keeper::new(asking).run(inbox));
        Self { name, asks }
    }

    /// Whether any rule has them, beside who keeps them to be shared.
    pub(crate) fn is_used(&self) -> bool {
        self.asks.strong_count() > 1
    }

    /// Connects: a stream whose far side has said that its target took the connection.
    pub(crate) async fn connect(&self, opening: &Opening, limit: Duration) -> Result<(Stream, Seat), Refusal> {
        let connected = async {
            let (mut stream, seat) = self.open().await?;
            match greet(&mut stream, opening).await {
                Ok(answer) if answer.verdict == Verdict::Connected => Ok((stream, seat)),
                Ok(answer) => Err(Refusal::of_answer(answer)),
                Err(refusal) => {
                    stream.reset(Reason(Broken::Protocol.code()));
                    Err(refusal)
                }
            }
        };
        tokio::time::timeout(limit, connected).await.unwrap_or_else(|_| {
            let words = format!("{} gave no answer within {limit:?}", self.name);
            Err(Refusal { verdict: Verdict::TimedOut, at: At::Far, words })
        })
    }

    /// A stream. A flow that is found to be over is left for a new one, once.
    async fn open(&self) -> Result<(Stream, Seat), Refusal> {
        let mut last = None;
        for _ in 0..2 {
            let seat = self.seat().await?;
            match seat.flow.open_stream().await {
                Ok(stream) => return Ok((stream, seat)),
                Err(error @ StreamError::Over(_)) => last = Some(Refusal::of_stream(&error)),
                Err(error) => return Err(Refusal::of_stream(&error)),
            }
        }
        Err(last.unwrap_or_else(|| Refusal::here(Verdict::Failed, "")))
    }

    /// A place in a flow, which is allocated if there is none.
    pub(crate) async fn seat(&self) -> Result<Seat, Refusal> {
        let (reply, answer) = oneshot::channel();
        let ended = || Refusal::here(Verdict::Stopping, "the rule is being closed");
        self.asks.send(reply).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Says who is to be connected, and hears what came of it.
async fn greet(stream: &mut Stream, opening: &Opening) -> Result<Answer, Refusal> {
    stream.write_all(&opening.encode()).await.map_err(|error| broken(&error))?;
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await.map_err(|error| broken(&error))?;
    let length = Answer::length(head).map_err(foreign)?;
    let mut fields = vec![0; length];
    stream.read_exact(&mut fields).await.map_err(|error| broken(&error))?;
    Answer::decode(&fields).map_err(foreign)
}

fn broken(error: &std::io::Error) -> Refusal {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>());
    match inner {
        Some(StreamError::Reset(reason) | StreamError::Stopped(reason)) => {
            let words = format!("it ended the stream ({}) before it said what came of it", Broken::from_code(reason.0));
            Refusal { verdict: Verdict::Failed, at: At::Far, words }
        }
        Some(error) => Refusal::of_stream(error),
        None => {
            Refusal { verdict: Verdict::Failed, at: At::Far, words: "it ended the stream without an answer".to_owned() }
        }
    }
}

fn foreign(error: Malformed) -> Refusal {
    let verdict = if matches!(error, Malformed::Version(_)) { Verdict::Version } else { Verdict::Failed };
    Refusal { verdict, at: At::Far, words: format!("its answer cannot be read: {error}") }
}

/// A flow of the pool.
struct Carrying {
    flow: Arc<Flow>,
    left: Arc<Left>,
    /// Waits for its end.
    watch: AbortHandle,
}

impl Drop for Carrying {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// The task that owns a pool.
struct Keeper {
    asking: Asking,
    pool: Pool,
    flows: HashMap<FlowKey, Carrying>,
    waiting: HashMap<Want, oneshot::Sender<Result<Seat, Refusal>>>,
    next: u64,
    news: Arc<Notify>,
    allocations: JoinSet<Result<Flow, AllocError>>,
    ends: JoinSet<FlowKey>,
}

impl Keeper {
    fn new(asking: Asking) -> Self {
        Self {
            asking,
            pool: Pool::default(),
            flows: HashMap::new(),
            waiting: HashMap::new(),
            next: 0,
            news: Arc::new(Notify::new()),
            allocations: JoinSet::new(),
            ends: JoinSet::new(),
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<oneshot::Sender<Result<Seat, Refusal>>>) {
        loop {
            let due = self.pool.poll_timeout();
            tokio::select! {
                ask = inbox.recv() => {
                    let Some(reply) = ask else { return };
                    self.next += 1;
                    self.waiting.insert(Want(self.next), reply);
                    self.pool.wanted(Want(self.next));
                }
                Some(done) = self.allocations.join_next() => self.allocated(done),
                Some(done) = self.ends.join_next() => if let Ok(key) = done {
                    self.flows.remove(&key);
                    self.pool.gone(key);
                },
                () = self.news.notified() => self.count(),
                () = until(due) => self.pool.handle_timeout(now()),
            }
            self.act();
        }
    }

    fn allocated(&mut self, done: Result<Result<Flow, AllocError>, tokio::task::JoinError>) {
        match done {
            Ok(Ok(flow)) => {
                let flow = Arc::new(flow);
                let key = self.pool.allocated(now());
                let left = Arc::new(Left { places: AtomicU32::new(0), news: self.news.clone() });
                let watched = flow.clone();
                let watch = self.ends.spawn(async move {
                    // Its messages, if there are any, are not for us: their end is that of the flow.
                    while watched.recv_message().await.is_ok() {}
                    key
                });
                tracing::debug!(name = %self.asking.name, flow = %flow.id(), "allocated");
                self.flows.insert(key, Carrying { flow, left, watch });
            }
            Ok(Err(error)) => self.pool.refused(&Refusal::of_alloc(&error)),
            Err(error) => self.pool.refused(&Refusal::here(Verdict::Failed, error.to_string())),
        }
    }

    /// Counts the places that were given back.
    fn count(&mut self) {
        for (key, carrying) in &self.flows {
            for _ in 0..carrying.left.places.swap(0, Ordering::Relaxed) {
                self.pool.left(now(), *key);
            }
        }
    }

    fn act(&mut self) {
        while let Some(effect) = self.pool.poll_effect() {
            match effect {
                Effect::Allocate => {
                    self.allocations.spawn(self.asking.clone().alloc(Qos::stream()));
                }
                Effect::Take(want, key) => {
                    let (reply, flow) = (self.waiting.remove(&want), self.flows.get(&key));
                    if let (Some(reply), Some(carrying)) = (reply, flow) {
                        // Who went away meanwhile gives the place back by not taking it.
                        let _ = reply.send(Ok(Seat { flow: carrying.flow.clone(), left: carrying.left.clone() }));
                    }
                }
                Effect::Refuse(want, refusal) => {
                    if let Some(reply) = self.waiting.remove(&want) {
                        let _ = reply.send(Err(refusal));
                    }
                }
                Effect::End(key) => {
                    self.flows.remove(&key);
                }
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "io reads the clock")]
fn now() -> Instant {
    Instant::now()
}

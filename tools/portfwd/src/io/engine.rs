//! The forwarder: its worker threads, and the rules that they carry out.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use libflow::{Stack, StackError};
use service::resolve::Hosts;
use tokio::sync::watch;

use super::accept::{Gate, accept};
use super::listen::{ListenError, Listening};
use super::live::Live;
use super::over::{Asking, Flows};
use super::running::Running;
use super::serve::serve;
use super::udp;
use super::worker::{Phase, Thread, Worker};
use crate::said::end::End;
use crate::said::rule::{Accept, Options, Rule};

/// How often it is looked whether all connections have ended.
const LOOK: Duration = Duration::from_millis(20);

/// Worker threads that carry out rules. Dropped, all connections are reset.
pub(crate) struct Engine {
    workers: Vec<Arc<Worker>>,
    // Behind the workers: their threads end when these are dropped.
    _threads: Vec<Thread>,
    phase: watch::Sender<Phase>,
    run_dir: Option<PathBuf>,
    stack: Mutex<Option<Stack>>,
    /// The next worker that has what a single one does.
    next: AtomicUsize,
    hosts: Hosts,
    shared: Mutex<HashMap<Alike, Vec<Flows>>>,
}

/// What flows to a target are asked for with: its name, layers, and how long that may take.
type Alike = (Arc<str>, Vec<String>, Duration);

/// A rule that is being carried out. Dropped, it takes no more connections; those that it has go on.
#[derive(Debug)]
pub(crate) struct Opened {
    rules: watch::Sender<Option<Arc<Running>>>,
    listening: Option<Arc<Listening>>,
    gate: Option<Arc<watch::Sender<bool>>>,
}

/// A rule cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("{0} cannot be served: {1}")]
    Serve(End, libflow::ListenError),
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error("no descriptors for {0} ({1}); raise the limit (ulimit -n)")]
    Descriptors(End, io::Error),
}

impl Engine {
    /// Starts so many threads. `run_dir`: of irmd's sockets, for flows.
    pub(crate) fn start(workers: usize, run_dir: Option<PathBuf>) -> io::Result<Self> {
        let phase = watch::Sender::new(Phase::Run);
        let started: io::Result<Vec<_>> =
            (0..workers.max(1)).map(|number| Worker::start(number, phase.subscribe())).collect();
        let (workers, threads) = started?.into_iter().unzip();
        Ok(Self {
            workers,
            _threads: threads,
            phase,
            run_dir,
            stack: Mutex::default(),
            next: AtomicUsize::new(0),
            hosts: Hosts::default(),
            shared: Mutex::default(),
        })
    }

    /// A rule in force, for [`Self::open`] or [`Opened::replace`]; `former` is what the same listening end had before.
    pub(crate) fn running(&self, rule: Rule, former: Option<&Running>) -> anyhow::Result<Arc<Running>> {
        let flows = |target: &End, options: &Options| self.flows(target, options);
        let counters = former.map(|former| former.counters.clone()).unwrap_or_default();
        let name = rule.name.clone();
        Running::new(rule, counters, &self.hosts, flows, former).with_context(|| format!("rule {name}"))
    }

    /// Carries out a rule with one port at most: from now on it listens.
    pub(crate) async fn open(&self, running: Arc<Running>) -> Result<Opened, OpenError> {
        match &running.rule.listen {
            End::Flow(name) => {
                let stack = self.stack()?;
                let serving = |error| OpenError::Serve(running.rule.listen.clone(), error);
                let listen = stack.listen(name.as_str());
                let layers = &running.rule.options.layers;
                let listen = if layers.is_empty() { listen } else { listen.layers(layers) };
                let listener = listen.await.map_err(serving)?;
                let (udp, worker) = (running.rule.is_udp(), self.next_worker());
                if udp {
                    running.look_up().await;
                }
                let rules = watch::Sender::new(Some(running));
                match udp {
                    true => worker.spawn(udp::far(worker.clone(), rules.subscribe(), listener)),
                    false => {
                        worker.spawn(super::health::keep(rules.subscribe()));
                        worker.spawn(serve(worker.clone(), rules.subscribe(), listener));
                    }
                }
                Ok(Opened { rules, listening: None, gate: None })
            }
            End::Udp(place) => {
                running.look_up().await;
                let socket = udp::open(place).map_err(|error| super::listen::of_udp(&running.rule.listen, &error))?;
                let (worker, to_flow) = (self.next_worker(), running.rule.targets.iter().any(|end| !end.is_udp()));
                let rules = watch::Sender::new(Some(running));
                match to_flow {
                    true => worker.spawn(udp::near(worker.clone(), rules.subscribe(), socket, self.stack()?)),
                    false => worker.spawn(udp::direct(worker.clone(), rules.subscribe(), socket)),
                }
                Ok(Opened { rules, listening: None, gate: None })
            }
            End::Tcp(_) | End::Unix(_) => self.listen(running),
        }
    }

    /// The same where another socket was just closed at the same place, which takes its tasks a moment.
    pub(crate) async fn open_patiently(&self, running: Arc<Running>) -> Result<Opened, OpenError> {
        for _ in 0..50 {
            match self.open(running.clone()).await {
                Err(OpenError::Listen(ListenError::InUse { .. })) => pause(LOOK).await,
                done => return done,
            }
        }
        self.open(running).await
    }

    /// Threads that forward.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// One after the other has what a single thread does.
    fn next_worker(&self) -> &Arc<Worker> {
        &self.workers[self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len()]
    }

    fn listen(&self, running: Arc<Running>) -> Result<Opened, OpenError> {
        let late = running.rule.options.accept == Accept::AfterTarget;
        let listening = Listening::open(&running.rule, late)?;
        let gate = Arc::new(watch::Sender::new(!late));
        let rules = watch::Sender::new(Some(running.clone()));
        for worker in &self.workers {
            let shares = listening.shares();
            for share in shares.map_err(|error| OpenError::Descriptors(running.rule.listen.clone(), error))? {
                let gate = Gate { rules: rules.subscribe(), open: gate.subscribe() };
                worker.spawn(accept(worker.clone(), gate, share, listening.is_tcp()));
            }
        }
        let keeper = self.next_worker();
        keeper.spawn(super::health::keep(rules.subscribe()));
        keeper.spawn(super::after_target::keep(rules.subscribe(), listening.clone(), gate.clone(), keeper.number));
        Ok(Opened { rules, listening: Some(listening), gate: Some(gate) })
    }

    /// The flows to a target, of each worker. Rules that ask for flows alike share them.
    fn flows(&self, target: &End, options: &Options) -> anyhow::Result<Vec<Flows>> {
        let End::Flow(name) = target else { return Ok(Vec::new()) };
        let asking = Asking {
            stack: self.stack()?,
            name: name.as_str().into(),
            layers: options.layers.clone(),
            limit: options.connect_timeout,
        };
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, flows| flows.iter().any(Flows::is_used));
        let key = (asking.name.clone(), asking.layers.clone(), asking.limit);
        let make = || self.workers.iter().map(|worker| worker.within(|| Flows::new(asking.clone()))).collect();
        Ok(shared.entry(key).or_insert_with(make).clone())
    }

    /// Access to irmd, made when the first flow is needed.
    fn stack(&self) -> Result<Stack, StackError> {
        let mut stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stack) = &*stack {
            return Ok(stack.clone());
        }
        Ok(stack.insert(Stack::find(self.run_dir.as_deref())?).clone())
    }

    /// All connections that live.
    pub(crate) fn lives(&self) -> Vec<Arc<Live>> {
        self.workers.iter().flat_map(|worker| worker.roster.lives()).collect()
    }

    /// How many live.
    pub(crate) fn count(&self) -> usize {
        self.workers.iter().map(|worker| worker.roster.len()).sum()
    }

    /// Waits until all connections have ended; those that have not within `limit` are reset. How many those were.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        let ended = async {
            while self.count() > 0 {
                pause(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(limit, ended).await;
        let left = self.count();
        self.phase.send_replace(Phase::Cut);
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while self.count() > 0 {
                pause(LOOK).await;
            }
        })
        .await;
        left
    }
}

impl Opened {
    /// From now on connections find this rule, which listens on the same end. Those that are there keep theirs.
    pub(crate) fn replace(&self, running: Arc<Running>) {
        if let Some(listening) = &self.listening {
            listening.tune(&running.rule);
            if self.is_open()
                && let Err(error) = listening.resume()
            {
                tracing::warn!(rule = %running.rule.name, %error, "its backlog stays as it was");
            }
        }
        self.rules.send_replace(Some(running));
    }

    /// Whether it takes connections now: not while its target is known to be dead.
    pub(crate) fn is_open(&self) -> bool {
        self.gate.as_ref().is_none_or(|gate| *gate.borrow())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.rules.send_replace(None);
    }
}

#[expect(clippy::disallowed_methods, reason = "io owns the timers")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

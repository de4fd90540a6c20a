//! libflow's own thread: gRPC with irmd and all leases, for async, blocking and C programs alike.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::{
    CertifyReply, CertifyRequest, Failure, FailureKind, FlowAllocRequest, FlowAnswerRequest, FlowHandle, JudgeReply,
    JudgeRequest, NamesReply, NamesRequest, ServeRequest,
};
use proto::{RunDir, Token};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tonic::{Response, Status};

use super::core::{Core, Outside};
use super::irm::{Irm, Link};
use super::lease::{Ask, Irmd, Lease};
use super::papers::Papers;
use super::patience::{Patience, comes_back};
use super::serving::{Served, Serving};
use crate::error::{CallError, Unreachable};

/// Calls handed to the thread and not yet begun.
const COMMANDS: usize = 1024;
/// irmd's cap on timeouts is 60 s; a call without an answer for longer means that irmd hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(65);
/// Calls that do not wait for a peer.
pub(super) const SHORT_WITHIN: Duration = Duration::from_secs(10);
/// More than the caller's own timeout, so that irmd's answer with its reason comes first.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// After irmd ended, whoever waits for it looks this often (and as soon as its lease stands again).
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A call waits so long for an irmd that was there and is not: it is being restarted.
const RETURNS_WITHIN: Duration = Duration::from_secs(2);
/// What the last handles left to say gets this long.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

pub(super) type Reply<T> = oneshot::Sender<Result<T, CallError>>;

/// A flow with what irmd said of it.
pub(crate) type Delivered = (Arc<Core>, FlowHandle);

/// A flow that waits for this program's decision; dropped, it refuses.
pub(crate) struct Arrived {
    pub(crate) handle: FlowHandle,
    pub(crate) decide: oneshot::Sender<Decision>,
}

/// What the program says to a flow that arrived.
pub(crate) enum Decision {
    Accept { data: Vec<u8>, keeper: Arc<Keeper>, reply: Reply<Arc<Core>> },
    Refuse { reason: String, reply: Reply<()> },
}

/// What is asked of the thread.
pub(crate) enum Command {
    Alloc {
        request: FlowAllocRequest,
        keeper: Arc<Keeper>,
        reply: Reply<Delivered>,
    },
    Serve {
        request: ServeRequest,
        reply: Reply<Serving>,
    },
    Accept {
        name: String,
        within: Option<Duration>,
        keeper: Arc<Keeper>,
        reply: Reply<Delivered>,
    },
    Incoming {
        name: String,
        within: Option<Duration>,
        reply: Reply<Arrived>,
    },
    Certify {
        request: CertifyRequest,
        reply: Reply<CertifyReply>,
    },
    Judge {
        request: JudgeRequest,
        reply: Reply<JudgeReply>,
    },
    /// Names that begin alike, until nobody holds what is given.
    Names {
        request: NamesRequest,
        reply: Reply<watch::Receiver<NamesReply>>,
    },
}

/// Handle to the thread, which ends when the last handle (of a stack, a listener, a flow) is dropped.
pub(crate) struct Keeper {
    commands: mpsc::Sender<Command>,
    run_dir: RunDir,
    pub(crate) papers: Papers,
}

impl Keeper {
    pub(crate) fn start(run_dir: RunDir) -> std::io::Result<Arc<Self>> {
        let (commands, asked) = mpsc::channel(COMMANDS);
        let keeper = Arc::new(Self { commands, run_dir: run_dir.clone(), papers: Papers::default() });
        let (begun, begins) = std::sync::mpsc::channel();
        let thread = move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = begun.send(Ok(()));
                // As a task of its own: what wakes the future of `block_on` goes through the kernel each time.
                let work = runtime.spawn_local(run(run_dir, asked));
                let _ = runtime.block_on(work);
            }
            Err(error) => drop(begun.send(Err(error))),
        };
        std::thread::Builder::new().name("libflow".into()).spawn(thread)?;
        begins.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))?;
        Ok(keeper)
    }

    pub(crate) fn run_dir(&self) -> &RunDir {
        &self.run_dir
    }

    /// Has a command done; `Err` of a channel only if the thread has died.
    pub(crate) async fn call<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| thread_died())?;
        answer.await.unwrap_or_else(|_| Err(thread_died()))
    }
}

pub(crate) fn thread_died() -> CallError {
    let text = "libflow's thread has ended (a fork leaves it behind: allocate flows in the child with a new Stack)";
    CallError::Failed(Failure::new(FailureKind::Internal, text))
}

pub(super) struct LeaseHandle {
    asks: mpsc::Sender<Ask>,
    pub(super) outside: Arc<Outside>,
}

/// What all calls share, within the thread.
pub(super) struct Context {
    run_dir: RunDir,
    pub(super) irm: Rc<Irm>,
    leases: RefCell<HashMap<PathBuf, LeaseHandle>>,
    lease_tasks: RefCell<JoinSet<()>>,
    pub(super) served: RefCell<HashMap<String, Served>>,
    pub(super) farewells: RefCell<JoinSet<()>>,
    pub(super) asks: RefCell<JoinSet<()>>,
    pub(super) irmd_again: watch::Sender<u64>,
}

async fn run(run_dir: RunDir, mut commands: mpsc::Receiver<Command>) {
    let context = Rc::new(Context {
        irm: Rc::new(Irm::new(run_dir.irmd())),
        run_dir,
        leases: RefCell::default(),
        lease_tasks: RefCell::default(),
        served: RefCell::default(),
        farewells: RefCell::default(),
        asks: RefCell::default(),
        irmd_again: watch::Sender::new(0),
    });
    let mut calls = JoinSet::new();
    let mut irmd_again = context.irmd_again.subscribe();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => drop(calls.spawn_local(context.clone().perform(command))),
                None => break,
            },
            Some(_) = calls.join_next() => {}
            Ok(()) = irmd_again.changed() => drop(calls.spawn_local(context.clone().serve_again())),
        }
        context.reap();
    }
    calls.shutdown().await;
    context.asks.take().shutdown().await;
    let mut farewells = context.farewells.take();
    let mut leases = context.lease_tasks.take();
    let _ = tokio::time::timeout(FAREWELL_WITHIN, async { while farewells.join_next().await.is_some() {} }).await;
    context.leases.borrow_mut().clear();
    while leases.join_next().await.is_some() {}
}

impl Context {
    fn reap(&self) {
        while self.farewells.borrow_mut().try_join_next().is_some() {}
        while self.asks.borrow_mut().try_join_next().is_some() {}
        while self.lease_tasks.borrow_mut().try_join_next().is_some() {}
    }

    async fn perform(self: Rc<Self>, command: Command) {
        match command {
            Command::Alloc { request, keeper, mut reply } => {
                let done = unless_closed(&mut reply, self.alloc(request)).await;
                if let Some(done) = done {
                    // A caller that is gone releases the flow by dropping it.
                    let _ = reply.send(self.take(done, keeper).await);
                }
            }
            Command::Serve { request, mut reply } => {
                if let Some(done) = unless_closed(&mut reply, self.serve(request)).await {
                    // A caller that is gone drops the Serving, which ends it.
                    let _ = reply.send(done);
                }
            }
            Command::Accept { name, within, keeper, reply } => self.accepted(name, within, keeper, reply).await,
            Command::Certify { request, reply } => {
                self.irmd_says(reply, |mut irm| {
                    let request = request.clone();
                    async move { irm.client.certify(request).await }
                })
                .await;
            }
            Command::Judge { request, reply } => {
                self.irmd_says(reply, |mut irm| {
                    let request = request.clone();
                    async move { irm.client.judge(request).await }
                })
                .await;
            }
            Command::Names { request, reply } => self.names(request, reply).await,
            Command::Incoming { name, within, mut reply } => {
                let arrived = unless_closed(&mut reply, self.accept(&name, true, within)).await;
                match arrived {
                    None => {}
                    Some(Err(error)) => drop(reply.send(Err(error))),
                    Some(Ok(handle)) => {
                        let (decide, decision) = oneshot::channel();
                        self.farewells.borrow_mut().spawn_local(self.clone().decide(handle.clone(), decision));
                        // A caller that is gone drops the right to decide, which refuses.
                        let _ = reply.send(Ok(Arrived { handle, decide }));
                    }
                }
            }
        }
    }

    /// What irmd answers to a call that waits for no peer.
    async fn irmd_says<T, F>(&self, mut reply: Reply<T>, call: impl Fn(Link) -> F)
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let call = self.irm.call(Some(SHORT_WITHIN), |irm| {
            let answer = call(irm);
            async move { answer.await.map(Response::into_inner) }
        });
        if let Some(done) = unless_closed(&mut reply, call).await {
            let _ = reply.send(done);
        }
    }

    /// Takes the flow's socket.
    pub(super) async fn take(
        &self,
        done: Result<FlowHandle, CallError>,
        keeper: Arc<Keeper>,
    ) -> Result<Delivered, CallError> {
        let handle = done?;
        self.redeem(&handle, keeper).await.map(|core| (core, handle))
    }

    /// Asks for a flow; again where the first time certainly granted none, because irmd was not there or had come back a
    /// moment before.
    async fn alloc(&self, request: FlowAllocRequest) -> Result<FlowHandle, CallError> {
        let mut again = self.irmd_again.subscribe();
        let within = match request.timeout_ms {
            0 => ANSWER_WITHIN,
            ms => Duration::from_millis(ms.into()) + GRACE,
        };
        let asked = async {
            let (was_there, patience) = (self.irm.was_reached(), Patience::new(Some(RETURNS_WITHIN)));
            loop {
                let result = match self.open_irmd_lease().await {
                    Ok(()) => self.irm.flow_alloc(request.clone()).await,
                    Err(error) => Err(error),
                };
                match result {
                    // One that was never there is not waited for.
                    Err(CallError::Irmd(error)) if !was_there => return Err(CallError::Irmd(error)),
                    Err(error) if comes_back(&error) && patience.lasts() => {
                        let _ = tokio::time::timeout(LOOK_AGAIN, again.changed()).await;
                    }
                    other => return other,
                }
            }
        };
        tokio::time::timeout(within, asked).await.unwrap_or_else(|_| Err(self.irm.silent(within)))
    }

    /// Waits for the program's decision on a flow, and tells irmd.
    async fn decide(self: Rc<Self>, handle: FlowHandle, decision: oneshot::Receiver<Decision>) {
        let answer = |accept, reason, data| FlowAnswerRequest { flow_id: handle.flow_id, accept, reason, data };
        match decision.await {
            Ok(Decision::Accept { data, keeper, reply }) => {
                let result = match self.answer(answer(true, String::new(), data)).await {
                    Ok(()) => self.redeem(&handle, keeper).await,
                    Err(error) => Err(error),
                };
                let _ = reply.send(result);
            }
            Ok(Decision::Refuse { reason, reply }) => {
                let _ = reply.send(self.answer(answer(false, reason, Vec::new())).await);
            }
            Err(_) => {
                let reason = "the program did not answer".to_owned();
                let _ = self.answer(answer(false, reason, Vec::new())).await;
            }
        }
    }

    async fn answer(&self, request: FlowAnswerRequest) -> Result<(), CallError> {
        let call = self.irm.call(Some(SHORT_WITHIN), |irm| irm.flow_answer(request.clone()));
        call.await.map(|_| ())
    }

    async fn redeem(&self, handle: &FlowHandle, keeper: Arc<Keeper>) -> Result<Arc<Core>, CallError> {
        let path = Path::new(&handle.handoff);
        let Some(token) = Token::from_bytes(&handle.token) else {
            let text =
                format!("irmd gave flow {} without a token; run irmd and this program of one release", handle.flow_id);
            return Err(CallError::Failed(Failure::new(FailureKind::Internal, text)));
        };
        let asks = self.lease(path, path == self.run_dir.irmd_handoff()).asks;
        let (reply, answer) = oneshot::channel();
        asks.send(Ask::Redeem { token, keeper, reply }).await.map_err(|_| thread_died())?;
        match tokio::time::timeout(SHORT_WITHIN, answer).await {
            Ok(Ok(result)) => result.map_err(one_flow_gone),
            Ok(Err(_)) => Err(thread_died()),
            Err(_) => Err(CallError::Handoff(Unreachable::handoff(path, "no answer to the token"))),
        }
    }

    pub(super) async fn open_irmd_lease(&self) -> Result<(), CallError> {
        let lease = self.irmd_lease();
        if lease.outside.is_open() {
            return Ok(());
        }
        // Through gRPC first: its error names the socket that people know.
        self.irm.reach().await?;
        let (reply, answer) = oneshot::channel();
        lease.asks.send(Ask::Open { reply }).await.map_err(|_| thread_died())?;
        match answer.await {
            Ok(Err(CallError::Handoff(unreachable))) => Err(CallError::Irmd(unreachable.of_irmd())),
            Ok(result) => result,
            Err(_) => Err(thread_died()),
        }
    }

    pub(super) fn irmd_lease(&self) -> LeaseHandle {
        self.lease(&self.run_dir.irmd_handoff(), true)
    }

    fn lease(&self, path: &Path, irmd: bool) -> LeaseHandle {
        if let Some(lease) = self.leases.borrow().get(path) {
            return LeaseHandle { asks: lease.asks.clone(), outside: lease.outside.clone() };
        }
        let (asks, asked) = mpsc::channel(COMMANDS);
        let outside = Arc::new(Outside::default());
        let irmd = irmd.then(|| Irmd { irm: self.irm.clone(), again: self.irmd_again.clone() });
        let lease = Lease::new(path.to_path_buf(), irmd, outside.clone());
        self.lease_tasks.borrow_mut().spawn_local(lease.run(asked));
        let handle = LeaseHandle { asks: asks.clone(), outside: outside.clone() };
        self.leases.borrow_mut().insert(path.to_path_buf(), LeaseHandle { asks, outside });
        handle
    }
}

/// A token that is no longer honoured says that its flow is over, not that this process may not accept others.
fn one_flow_gone(error: CallError) -> CallError {
    match error {
        CallError::Failed(failure) if failure.kind() == FailureKind::NotPermitted => {
            let text =
                format!("the flow ended before its socket was handed over ({}); wait for the next", failure.message);
            CallError::Failed(Failure::new(FailureKind::FlowGone, text))
        }
        other => other,
    }
}

/// Drops the work when nobody waits for its answer any more.
async fn unless_closed<T, R>(reply: &mut oneshot::Sender<T>, work: impl Future<Output = R>) -> Option<R> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = reply.closed() => None,
    }
}

//! libflow's own thread: gRPC with irmd and all leases, for async, blocking and C programs alike.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::{
    Failure, FailureKind, FlowAcceptRequest, FlowAllocRequest, FlowAnswerRequest, FlowHandle, ServeRequest,
    UnserveRequest,
};
use proto::{RunDir, Token};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tonic::Response;

use super::core::{Core, Outside};
use super::irm::Irm;
use super::lease::{Ask, Irmd, Lease};
use super::patience::{Patience, comes_back, comes_back_some_day};
use crate::error::{CallError, Unreachable};

/// Calls handed to the thread and not yet begun.
const COMMANDS: usize = 1024;
/// A name is served again so often for one accept, after such pauses, while irmd says that it is not.
const SERVED_AGAIN: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(50);
/// irmd's cap on timeouts is 60 s; a call without an answer for longer means that irmd hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(65);
/// Calls that do not wait for a peer.
const SHORT_WITHIN: Duration = Duration::from_secs(10);
/// More than the caller's own timeout, so that irmd's answer with its reason comes first.
const GRACE: Duration = Duration::from_secs(2);
/// After irmd ended, whoever waits for it looks this often (and as soon as its lease stands again).
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A call waits so long for an irmd that was there and is not: it is being restarted.
const RETURNS_WITHIN: Duration = Duration::from_secs(2);
/// Names told at once to an irmd that is back.
const SERVED_AT_ONCE: usize = 32;
/// What the last handles left to say gets this long.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

type Reply<T> = oneshot::Sender<Result<T, CallError>>;

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

/// A name is served as long as this lives.
pub(crate) struct Serving {
    pub(crate) layers: Vec<String>,
    _end: oneshot::Sender<()>,
}

/// What is asked of the thread.
pub(crate) enum Command {
    Alloc { request: FlowAllocRequest, keeper: Arc<Keeper>, reply: Reply<Delivered> },
    Serve { request: ServeRequest, reply: Reply<Serving> },
    Accept { name: String, within: Option<Duration>, keeper: Arc<Keeper>, reply: Reply<Delivered> },
    Incoming { name: String, within: Option<Duration>, reply: Reply<Arrived> },
}

/// Handle to the thread, which ends when the last handle (of a stack, a listener, a flow) is dropped.
pub(crate) struct Keeper {
    commands: mpsc::Sender<Command>,
    run_dir: RunDir,
}

impl Keeper {
    pub(crate) fn start(run_dir: RunDir) -> std::io::Result<Arc<Self>> {
        let (commands, asked) = mpsc::channel(COMMANDS);
        let keeper = Arc::new(Self { commands, run_dir: run_dir.clone() });
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

struct LeaseHandle {
    asks: mpsc::Sender<Ask>,
    outside: Arc<Outside>,
}

/// What all calls share, within the thread.
struct Context {
    run_dir: RunDir,
    irm: Rc<Irm>,
    leases: RefCell<HashMap<PathBuf, LeaseHandle>>,
    lease_tasks: RefCell<JoinSet<()>>,
    /// Names served, with how many listeners each has.
    served: RefCell<HashMap<String, (ServeRequest, usize)>>,
    farewells: RefCell<JoinSet<()>>,
    irmd_again: watch::Sender<u64>,
}

async fn run(run_dir: RunDir, mut commands: mpsc::Receiver<Command>) {
    let context = Rc::new(Context {
        irm: Rc::new(Irm::new(run_dir.irmd())),
        run_dir,
        leases: RefCell::default(),
        lease_tasks: RefCell::default(),
        served: RefCell::default(),
        farewells: RefCell::default(),
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
    let mut farewells = context.farewells.take();
    let mut leases = context.lease_tasks.take();
    let _ = tokio::time::timeout(FAREWELL_WITHIN, async { while farewells.join_next().await.is_some() {} }).await;
    context.leases.borrow_mut().clear();
    while leases.join_next().await.is_some() {}
}

impl Context {
    fn reap(&self) {
        while self.farewells.borrow_mut().try_join_next().is_some() {}
        while self.lease_tasks.borrow_mut().try_join_next().is_some() {}
    }

    async fn perform(self: Rc<Self>, command: Command) {
        match command {
            Command::Alloc { request, keeper, mut reply } => {
                let done = unless_closed(&mut reply, self.alloc(request)).await;
                if let Some(done) = done {
                    self.deliver(done, keeper, reply).await;
                }
            }
            Command::Serve { request, mut reply } => {
                if let Some(done) = unless_closed(&mut reply, self.serve(request)).await {
                    // A caller that is gone drops the Serving, which ends it.
                    let _ = reply.send(done);
                }
            }
            Command::Accept { name, within, keeper, mut reply } => {
                if let Some(done) = unless_closed(&mut reply, self.accept(&name, false, within)).await {
                    self.deliver(done, keeper, reply).await;
                }
            }
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

    /// Takes the flow's socket and gives all to the caller; a caller that is gone releases the flow by dropping it.
    async fn deliver(&self, done: Result<FlowHandle, CallError>, keeper: Arc<Keeper>, reply: Reply<Delivered>) {
        let result = match done {
            Ok(handle) => self.redeem(&handle, keeper).await.map(|core| (core, handle)),
            Err(error) => Err(error),
        };
        let _ = reply.send(result);
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

    async fn serve(self: &Rc<Self>, request: ServeRequest) -> Result<Serving, CallError> {
        let layers = self.say_served(&request).await?;
        let name = request.name.clone();
        self.served.borrow_mut().entry(name.clone()).or_insert((request, 0)).1 += 1;
        let (end, ended) = oneshot::channel();
        let context = self.clone();
        self.farewells.borrow_mut().spawn_local(async move {
            let _ = ended.await;
            context.unserve(name).await;
        });
        Ok(Serving { layers, _end: end })
    }

    async fn say_served(&self, request: &ServeRequest) -> Result<Vec<String>, CallError> {
        // irmd learns by the lease that this process is gone.
        self.open_irmd_lease().await?;
        let call = self.irm.call(Some(SHORT_WITHIN), |mut irm| {
            let request = request.clone();
            async move { irm.client.serve(request).await.map(Response::into_inner) }
        });
        Ok(call.await?.layers)
    }

    async fn unserve(&self, name: String) {
        let last = {
            let mut served = self.served.borrow_mut();
            let left = served.get_mut(&name).map_or(0, |(_, count)| {
                *count -= 1;
                *count
            });
            if left == 0 {
                served.remove(&name);
            }
            left == 0
        };
        if last && self.irmd_lease().outside.is_open() {
            let request = UnserveRequest { name };
            let call = self.irm.call(Some(SHORT_WITHIN), |mut irm| {
                let request = request.clone();
                async move { irm.client.unserve(request).await }
            });
            // irmd has ended meanwhile, or knows better: nothing is served any more either way.
            let _ = call.await;
        }
    }

    /// irmd was restarted: it does not know what this process serves.
    async fn serve_again(self: Rc<Self>) {
        let requests: Vec<_> = self.served.borrow().values().map(|(request, _)| request.clone()).collect();
        let mut under_way = JoinSet::new();
        for request in requests {
            if under_way.len() == SERVED_AT_ONCE {
                under_way.join_next().await;
            }
            let context = self.clone();
            // A failure shows at the next accept, which serves again before it waits.
            under_way.spawn_local(async move { drop(context.say_served(&request).await) });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// The next flow for a name; goes on waiting when irmd is restarted.
    async fn accept(&self, name: &str, ask: bool, within: Option<Duration>) -> Result<FlowHandle, CallError> {
        let mut again = self.irmd_again.subscribe();
        let patience = Patience::new(within);
        let mut served_again = 0;
        loop {
            let left = patience.left();
            let timeout_ms = left.map_or(0, |d| u32::try_from(d.as_millis()).unwrap_or(u32::MAX).max(1));
            let request = FlowAcceptRequest { name: name.to_owned(), ask, timeout_ms };
            let result = self.irm.call(left.map(|d| d + GRACE), |irm| irm.flow_accept(request.clone())).await;
            let stranger = matches!(&result, Err(CallError::Failed(f)) if f.kind() == FailureKind::NotPermitted);
            match result {
                Err(error) if comes_back_some_day(&error) && patience.lasts() => {
                    let _ = tokio::time::timeout(LOOK_AGAIN, again.changed()).await;
                }
                // An irmd that came back a moment ago has not heard yet that this process serves the name. It may be
                // the next one already that has not heard.
                Err(_) if stranger && served_again < SERVED_AGAIN && patience.lasts() => {
                    if served_again > 0 {
                        let _ = tokio::time::timeout(BETWEEN, again.changed()).await;
                    }
                    served_again += 1;
                }
                other => return other,
            }
            let request = self.served.borrow().get(name).map(|(request, _)| request.clone());
            let Some(request) = request else {
                let text = format!("{name} is not served by this process any more");
                return Err(CallError::Failed(Failure::new(FailureKind::NotPermitted, text)));
            };
            match self.say_served(&request).await {
                Ok(_) => {}
                Err(error) if comes_back_some_day(&error) => served_again = 0,
                Err(other) => return Err(other),
            }
        }
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

    async fn open_irmd_lease(&self) -> Result<(), CallError> {
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

    fn irmd_lease(&self) -> LeaseHandle {
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

//! An irmd for tests: real sockets, real hand-over, answers by the name that is asked for.
#![expect(clippy::disallowed_methods, reason = "the fake does what a daemon's io does")]

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handoff::Answers;
use handoff::server::{Config, EndReason, Event, Offer, Owner, Process, Server};
use proto::calls::{FlowAccepts, FlowAllocs, FlowAnswers};
use proto::v1::irm_server::{Irm, IrmServer};
use proto::v1::{
    CertifyReply, CertifyRequest, Empty, Failure, FailureKind, FlowAcceptCall, FlowAcceptRequest, FlowAllocCall,
    FlowAllocRequest, FlowAnswerCall, FlowAnswerRequest, FlowHandle, JudgeReply, JudgeRequest, NamesReply,
    NamesRequest, ServeReply, ServeRequest, UnserveRequest,
};
use proto::{FlowId, RunDir, Token};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("nothing happened within the deadline")
}

/// What the fake was told.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) served: Vec<String>,
    pub(crate) unserved: Vec<String>,
    pub(crate) answers: Vec<FlowAnswerRequest>,
    pub(crate) allocs: Vec<FlowAllocRequest>,
    pub(crate) released: Vec<FlowId>,
    pub(crate) suspects: Vec<FlowId>,
    pub(crate) not_taken: Vec<FlowId>,
    pub(crate) leases: i32,
    pub(crate) adopted: Vec<(Vec<u8>, proto::v1::Counters)>,
    accepts: VecDeque<(FlowAcceptRequest, oneshot::Sender<FlowHandle>)>,
}

#[derive(Clone)]
struct Service {
    log: Arc<Mutex<Log>>,
    handoff: Server,
    path: PathBuf,
}

/// Runs in a thread of its own; dropped, it is as if irmd was killed.
pub(crate) struct FakeIrmd {
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) handoff: Server,
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Ids and tokens stay unique over restarts of the fake.
static NEXT: AtomicU64 = AtomicU64::new(1);

fn me() -> Owner {
    Owner { uid: rustix::process::geteuid().as_raw(), pid: std::process::id() }
}

/// The ticket says which flow it is for.
fn ticket(flow: u64) -> Vec<u8> {
    format!("ticket of {flow}").into_bytes()
}

fn pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Offers one end of a new flow to this process.
fn offer(handoff: &Server, path: &Path, name: &str, near: OwnedFd, at_once: bool) -> FlowHandle {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut token = [9; 16];
    token[..8].copy_from_slice(&id.to_le_bytes());
    let token = Token(token);
    let offer = Offer {
        token,
        flow: FlowId(id),
        owner: me(),
        socket: Arc::new(near),
        sdu_limit: 1000,
        ticket: ticket(id),
        unwanted: None,
        binding: None,
        fixed: false,
        movable: false,
    };
    handoff.expect(token);
    let server = handoff.clone();
    if at_once {
        server.offer(offer);
    } else {
        // As an IPCP does on the accepting side: the token is known before the socket is there.
        tokio::spawn(async move {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            server.offer(offer);
        });
    }
    FlowHandle {
        flow_id: id,
        token: token.0.to_vec(),
        handoff: path.to_str().unwrap().to_owned(),
        name: name.to_owned(),
        source_name: "me".to_owned(),
        layer: "local".to_owned(),
        data: b"hello".to_vec(),
        ..FlowHandle::default()
    }
}

fn echo(far: OwnedFd) {
    let run = move || {
        let mut buffer = [0; 70_000];
        while let Ok((len, _)) = rustix::net::recv(&far, &mut buffer, RecvFlags::empty()) {
            if len == 0 || rustix::net::send(&far, &buffer[..len], SendFlags::NOSIGNAL).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().spawn(run).unwrap();
}

#[tonic::async_trait]
impl Irm for Service {
    type FlowAllocStream = Answers<FlowAllocs>;
    type FlowAcceptStream = Answers<FlowAccepts>;
    type FlowAnswerStream = Answers<FlowAnswers>;

    async fn flow_alloc(
        &self,
        calls: Request<Streaming<FlowAllocCall>>,
    ) -> Result<Response<Self::FlowAllocStream>, Status> {
        let service = self.clone();
        let work = move |request| service.clone().alloc(request);
        Ok(Response::new(handoff::answers::<FlowAllocs, _, _>(calls.into_inner(), 1_000, work)))
    }

    async fn flow_accept(
        &self,
        calls: Request<Streaming<FlowAcceptCall>>,
    ) -> Result<Response<Self::FlowAcceptStream>, Status> {
        let service = self.clone();
        let work = move |request| service.clone().accept(request);
        Ok(Response::new(handoff::answers::<FlowAccepts, _, _>(calls.into_inner(), 1_000, work)))
    }

    async fn certify(&self, _: Request<CertifyRequest>) -> Result<Response<CertifyReply>, Status> {
        Err(Status::unimplemented("no identity here"))
    }

    async fn judge(&self, _: Request<JudgeRequest>) -> Result<Response<JudgeReply>, Status> {
        Err(Status::unimplemented("no identity here"))
    }

    type NamesStream = tokio_stream::Iter<std::vec::IntoIter<Result<NamesReply, Status>>>;

    async fn names(&self, _: Request<NamesRequest>) -> Result<Response<Self::NamesStream>, Status> {
        Err(Status::unimplemented("no groups here"))
    }

    async fn serve(&self, request: Request<ServeRequest>) -> Result<Response<ServeReply>, Status> {
        let request = request.into_inner();
        if request.name == "taken" {
            return Err(Failure::new(FailureKind::NotPermitted, "another user's").into());
        }
        // The lease is open before a name is served; its event is still on its way to the log, perhaps.
        let open = async {
            while self.log.lock().unwrap().leases == 0 {
                tokio::task::yield_now().await;
            }
        };
        within(open).await;
        self.log.lock().unwrap().served.push(request.name);
        Ok(Response::new(ServeReply { layers: vec!["net".into()] }))
    }

    async fn unserve(&self, request: Request<UnserveRequest>) -> Result<Response<Empty>, Status> {
        self.log.lock().unwrap().unserved.push(request.into_inner().name);
        Ok(Response::new(Empty {}))
    }

    async fn flow_answer(
        &self,
        calls: Request<Streaming<FlowAnswerCall>>,
    ) -> Result<Response<Self::FlowAnswerStream>, Status> {
        let log = self.log.clone();
        let work = move |request| {
            log.lock().unwrap().answers.push(request);
            std::future::ready(Ok(Empty {}))
        };
        Ok(Response::new(handoff::answers::<FlowAnswers, _, _>(calls.into_inner(), 1_000, work)))
    }
}

impl Service {
    async fn alloc(self, request: FlowAllocRequest) -> Result<FlowHandle, Failure> {
        self.log.lock().unwrap().allocs.push(request.clone());
        let no = |kind| Err(Failure::new(kind, format!("no flow to {}", request.name)));
        let mut path = self.path.clone();
        match request.name.as_str() {
            "unknown" => return no(FailureKind::UnknownName),
            "unasked" => return no(FailureKind::DirectoryFailed),
            "refusing" => {
                let failure = Failure::new(FailureKind::Refused, "the program said no");
                return Err(Failure { reason: "full".into(), ..failure });
            }
            "unattended" => return no(FailureKind::NobodyAccepts),
            "silent" => {
                let failure = Failure::new(FailureKind::TimedOut, "no answer");
                return Err(Failure { asked: 4, ..failure });
            }
            "hanging" => std::future::pending::<()>().await,
            "elsewhere" => path = self.path.with_file_name("nobody.flow"),
            _ => {}
        }
        if request.layer == "nowhere" {
            return no(FailureKind::NoSuchLayer);
        }
        let (near, far) = pair();
        echo(far);
        Ok(offer(&self.handoff, &path, &request.name, near, request.name != "late"))
    }

    async fn accept(self, request: FlowAcceptRequest) -> Result<FlowHandle, Failure> {
        if request.timeout_ms > 0 {
            return Err(Failure::new(FailureKind::TimedOut, "nobody came"));
        }
        let (give, given) = oneshot::channel();
        self.log.lock().unwrap().accepts.push_back((request, give));
        given.await.map_err(|_| Failure::new(FailureKind::Internal, "stopping"))
    }
}

impl FakeIrmd {
    pub(crate) fn start(dir: &Path) -> Self {
        let run_dir = RunDir::find(Some(dir)).unwrap();
        let path = run_dir.irmd_handoff();
        let log = Arc::new(Mutex::new(Log::default()));
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let (log_there, path_there) = (log.clone(), path.clone());
        let thread = std::thread::Builder::new().name("irmd".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (handoff, events) = Server::start(Config::new(&path_there)).unwrap();
                tokio::spawn(watch(events, handoff.clone(), log_there.clone()));
                let _ = std::fs::remove_file(run_dir.irmd());
                let listener = tokio::net::UnixListener::bind(run_dir.irmd()).unwrap();
                let service = Service { log: log_there, handoff: handoff.clone(), path: path_there };
                let server = tonic::transport::Server::builder().add_service(IrmServer::new(service));
                tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
                ready.send(handoff).unwrap();
                let _ = stopped.await;
            });
        });
        let handoff = started.recv_timeout(DEADLINE).unwrap();
        Self { log, handoff, path, stop: Some(stop), thread: Some(thread.unwrap()) }
    }

    pub(crate) fn log<R>(&self, look: impl FnOnce(&Log) -> R) -> R {
        look(&self.log.lock().unwrap())
    }

    /// Waits until the log says so.
    pub(crate) async fn until(&self, said: impl Fn(&Log) -> bool) {
        within(async {
            while !self.log(&said) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// A flow arrives for whoever waits to accept one; its far end.
    pub(crate) async fn arrive(&self, name: &str) -> OwnedFd {
        let (near, far) = pair();
        self.give(name, offer(&self.handoff, &self.path, name, near, true)).await;
        far
    }

    /// A flow arrives that is over before its program redeems the token.
    pub(crate) async fn arrive_and_end(&self, name: &str) {
        let mut handle = offer(&self.handoff, &self.path, name, pair().0, true);
        handle.token = vec![0xee; 16];
        self.give(name, handle).await;
    }

    async fn give(&self, name: &str, handle: FlowHandle) {
        self.until(|log| log.accepts.iter().any(|(request, give)| request.name == name && !give.is_closed())).await;
        let mut log = self.log.lock().unwrap();
        log.accepts.retain(|(_, give)| !give.is_closed());
        let at = log.accepts.iter().position(|(request, _)| request.name == name).expect("an accept waits");
        let (_, give) = log.accepts.remove(at).unwrap();
        give.send(handle).expect("the accept waits");
    }
}

impl Drop for FakeIrmd {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn watch(mut events: tokio::sync::mpsc::Receiver<Event>, handoff: Server, log: Arc<Mutex<Log>>) {
    while let Some(event) = events.recv().await {
        let mut log = log.lock().unwrap();
        match event {
            Event::LeaseOpened(Process { .. }) => log.leases += 1,
            Event::LeaseClosed { .. } => log.leases -= 1,
            Event::Taken { .. } => {}
            Event::NotTaken { flow } => log.not_taken.push(flow),
            Event::Released { flow, .. } => {
                log.released.push(flow);
                handoff.forget(flow);
            }
            Event::Heard { .. } => {}
            Event::Suspect { flow } => log.suspects.push(flow),
            Event::Adopt { adoption, ticket: shown, socket, counters, .. } => {
                log.adopted.push((shown.clone(), counters));
                let text = String::from_utf8(shown).unwrap();
                let flow = text.rsplit(' ').next().unwrap().parse().unwrap();
                handoff.adopted(adoption, FlowId(flow), Arc::new(socket), 1000, ticket(flow));
            }
        }
    }
}

/// Why the fake ends a flow.
pub(crate) const PEER_DIED: EndReason = EndReason::PeerDied;

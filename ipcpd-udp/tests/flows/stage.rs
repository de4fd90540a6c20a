//! A host without irmd and programs of its own: an ipcpd on a loopback address, an irmd that is played, programs that
//! speak the hand-over protocol. All in the test's process and runtime.
#![expect(clippy::disallowed_methods, reason = "the stage starts tasks and waits with deadlines")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use handoff::{Answers, Caller};
use ipcpd_udp::config::Options;
use proto::RunDir;
use proto::calls::{Allocs, FlowReqArrs};
use proto::v1::ipcp_client::IpcpClient;
use proto::v1::irm_for_ipcp_server::{IrmForIpcp, IrmForIpcpServer};
use proto::v1::{self, EndReason, Failure, FailureKind};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::program::process;

/// Nothing here takes so long.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Within the deadline, or the test fails.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// Both ends, both IPCPs and their programs are this one process: as many descriptors as the system gives without asking.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// A loopback address that no other test of this or another process uses.
pub(crate) fn address() -> IpAddr {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (pid, n) = (u64::from(std::process::id()), NEXT.fetch_add(1, Ordering::Relaxed));
    let mixed = pid.wrapping_mul(257).wrapping_add(n) % (200 * 250 * 250);
    let byte = |n: u64| u8::try_from(n).unwrap();
    Ipv4Addr::new(127, byte(20 + mixed / 62_500), byte(2 + mixed / 250 % 250), byte(2 + mixed % 250)).into()
}

pub(crate) const PORT: u16 = 23_359;

/// What the played irmd does with a flow that a peer asks for.
#[derive(Clone, Debug)]
pub(crate) enum Policy {
    /// Accepts for this process.
    Accept(Vec<u8>),
    /// Accepts for a process of this user.
    AcceptFor(u32),
    Refuse(&'static str),
    /// Answers when the test says so (`Irmd::decide`).
    Park,
}

#[derive(Clone)]
pub(crate) struct Irmd {
    policy: Arc<Mutex<Policy>>,
    next: Arc<AtomicU64>,
    pub(crate) arrived: mpsc::Sender<v1::FlowReqArrRequest>,
    pub(crate) ended: mpsc::Sender<(u64, EndReason)>,
    pub(crate) attached: mpsc::Sender<v1::AttachRequest>,
    parked: Arc<Mutex<Vec<tokio::sync::oneshot::Sender<Policy>>>>,
}

impl Irmd {
    pub(crate) fn set(&self, policy: Policy) {
        *self.policy.lock().unwrap() = policy;
    }

    /// Waits until the longest parked request is no longer waited for.
    pub(crate) async fn abandoned(&self) {
        let mut parked = self.parked.lock().unwrap().remove(0);
        soon("the end of the call", parked.closed()).await;
    }

    /// Answers the longest parked request.
    pub(crate) fn decide(&self, policy: Policy) {
        self.parked.lock().unwrap().remove(0).send(policy).unwrap();
    }
}

#[tonic::async_trait]
impl IrmForIpcp for Irmd {
    type AttachStream = ReceiverStream<Result<v1::AttachReply, Status>>;

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<Self::AttachStream>, Status> {
        let (sender, stream) = mpsc::channel(1);
        sender.send(Ok(v1::AttachReply { version: 1 })).await.unwrap();
        let _ = self.attached.send(request.into_inner()).await;
        // Held open for ever: the task goes with the runtime.
        tokio::spawn(async move { sender.closed().await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type FlowReqArrStream = Answers<FlowReqArrs>;

    async fn flow_req_arr(
        &self,
        calls: Request<Streaming<v1::FlowReqArrCall>>,
    ) -> Result<Response<Self::FlowReqArrStream>, Status> {
        let irmd = self.clone();
        let work = move |request| irmd.clone().arrival(request);
        Ok(Response::new(handoff::answers::<FlowReqArrs, _, _>(calls.into_inner(), 10_000, work)))
    }

    async fn flows_ended(&self, request: Request<v1::FlowsEndedRequest>) -> Result<Response<v1::Empty>, Status> {
        for flow in request.into_inner().flows {
            let _ = self.ended.send((flow.flow_id, flow.reason())).await;
        }
        Ok(Response::new(v1::Empty {}))
    }
}

impl Irmd {
    async fn arrival(self, request: v1::FlowReqArrRequest) -> Result<v1::FlowReqArrReply, Failure> {
        let policy = self.policy.lock().unwrap().clone();
        let parked = matches!(policy, Policy::Park).then(|| {
            let (sender, decided) = tokio::sync::oneshot::channel();
            self.parked.lock().unwrap().push(sender);
            decided
        });
        let _ = self.arrived.send(request).await;
        let policy = match parked {
            Some(decided) => decided.await.map_err(|_| Failure::new(FailureKind::Internal, "irmd ends"))?,
            None => policy,
        };
        match policy {
            Policy::Accept(data) => {
                let flow_id = self.next.fetch_add(1, Ordering::Relaxed);
                Ok(v1::FlowReqArrReply { flow_id, process: Some(process()), data })
            }
            Policy::AcceptFor(uid) => {
                let flow_id = self.next.fetch_add(1, Ordering::Relaxed);
                let process = Some(v1::Process { uid, ..process() });
                Ok(v1::FlowReqArrReply { flow_id, process, data: Vec::new() })
            }
            Policy::Refuse(reason) => {
                Err(Failure { reason: reason.into(), ..Failure::new(FailureKind::Refused, "refused") })
            }
            Policy::Park => Err(Failure::new(FailureKind::Internal, "parked twice")),
        }
    }
}

pub(crate) struct Host {
    _dir: tempfile::TempDir,
    pub(crate) run_dir: RunDir,
    pub(crate) listen: SocketAddr,
    args: Vec<String>,
    pub(crate) ipcpd: JoinHandle<anyhow::Result<()>>,
    pub(crate) irmd: Irmd,
    irmd_runtime: Option<tokio::runtime::Runtime>,
    pub(crate) ipcp: IpcpClient<Channel>,
    allocs: Caller<Allocs>,
    pub(crate) arrived: mpsc::Receiver<v1::FlowReqArrRequest>,
    pub(crate) ended: mpsc::Receiver<(u64, EndReason)>,
    pub(crate) attached: mpsc::Receiver<v1::AttachRequest>,
    next_flow: u64,
}

impl Host {
    /// A host whose ipcpd is up and attached.
    pub(crate) async fn start(listen: SocketAddr, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap().to_owned();
        let run_dir = RunDir::find(Some(dir.path())).unwrap();
        let ((arrived, arrived_queue), (ended, ended_queue), (attached, attached_queue)) =
            (mpsc::channel(10_000), mpsc::channel(10_000), mpsc::channel(100));
        let irmd = Irmd {
            policy: Arc::new(Mutex::new(Policy::Accept(Vec::new()))),
            next: Arc::new(AtomicU64::new(1000)),
            arrived,
            ended,
            attached,
            parked: Arc::default(),
        };
        let (ip, port) = (listen.ip().to_string(), listen.port().to_string());
        let fixed = ["ipcpd-udp", "--name", "udp0", "--run-dir", &path, "--layer", "net", "--ip", &ip, "--port", &port];
        let args: Vec<String> = fixed.iter().chain(more).map(|text| (*text).to_owned()).collect();
        let mut host = Self {
            ipcpd: start(&args),
            ipcp: client(run_dir.ipcp("udp0")),
            allocs: Caller::default(),
            irmd,
            irmd_runtime: None,
            run_dir,
            listen,
            args,
            arrived: arrived_queue,
            ended: ended_queue,
            attached: attached_queue,
            next_flow: 1,
            _dir: dir,
        };
        host.start_irmd();
        soon("attaching", host.attached.recv()).await.unwrap();
        host
    }

    pub(crate) fn start_irmd(&mut self) {
        let path = self.run_dir.irmd();
        let _ = std::fs::remove_file(&path);
        // A runtime of its own: its end closes every socket, as the end of a process does.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = IrmForIpcpServer::new(self.irmd.clone());
        let incoming = {
            let _inside = runtime.enter();
            UnixListenerStream::new(UnixListener::bind(path).unwrap())
        };
        runtime.spawn(async move {
            Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        self.irmd_runtime = Some(runtime);
    }

    pub(crate) fn stop_irmd(&mut self) {
        if let Some(runtime) = self.irmd_runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Ends the ipcpd as if it were killed, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.ipcpd.abort();
        let _ = (&mut self.ipcpd).await;
        self.restart_after_abort().await;
    }

    pub(crate) async fn restart_after_abort(&mut self) {
        self.ipcpd = start(&self.args);
        self.ipcp = client(self.run_dir.ipcp("udp0"));
        self.allocs = Caller::default();
        soon("attaching again", self.attached.recv()).await.unwrap();
    }

    pub(crate) async fn register(&mut self, name: &str) {
        self.ipcp.register(v1::RegisterRequest { name: name.into(), ..Default::default() }).await.unwrap();
    }

    pub(crate) async fn knows(&mut self, name: &str, host: SocketAddr) {
        let host = Some(v1::StaticHost { name: name.into(), address: host.to_string() });
        self.ipcp.add_host(v1::AddHostRequest { host }).await.unwrap();
    }

    pub(crate) fn request(&mut self, name: &str) -> v1::AllocRequest {
        self.next_flow += 1;
        v1::AllocRequest {
            flow_id: self.next_flow,
            name: name.into(),
            source_name: "me".into(),
            qos: None,
            timeout_ms: 3000,
            data: b"hello".to_vec(),
            process: Some(process()),
        }
    }

    pub(crate) async fn alloc(&mut self, name: &str) -> Result<(u64, v1::AllocReply), Failure> {
        let request = self.request(name);
        let flow = request.flow_id;
        self.ask(request).await.map(|reply| (flow, reply))
    }

    /// `Alloc`; dropped, it is given up.
    pub(crate) fn ask(
        &self,
        request: v1::AllocRequest,
    ) -> impl Future<Output = Result<v1::AllocReply, Failure>> + use<> {
        let (mut ipcp, allocs) = (self.ipcp.clone(), self.allocs.clone());
        async move {
            let call = allocs.call(|questions| async move { ipcp.alloc(questions).await }, request);
            soon("Alloc", call).await.map_err(|status| Failure::from_status(&status))
        }
    }

    pub(crate) async fn counter(&mut self, name: &str) -> u64 {
        let report = self.ipcp.report(v1::Empty {}).await.unwrap().into_inner();
        report.counters.get(name).copied().unwrap_or(0)
    }

    pub(crate) async fn flows(&mut self) -> Vec<v1::FlowInfo> {
        let mut stream = self.ipcp.flows(v1::Empty {}).await.unwrap().into_inner();
        let mut flows = Vec::new();
        while let Some(flow) = soon("the listing", stream.message()).await.unwrap() {
            flows.push(flow);
        }
        flows
    }

    /// Waits until the listing is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&[v1::FlowInfo]) -> bool) {
        let wait = async {
            while !wanted(&self.flows().await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(what, wait).await;
    }
}

/// Runs one more ipcpd on the address of another host, until it ends by itself.
pub(crate) async fn second(listen: SocketAddr, more: &[&str]) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (path, ip, port) = (dir.path().display().to_string(), listen.ip().to_string(), listen.port().to_string());
    let fixed = ["ipcpd-udp", "--name", "udp0", "--run-dir", &path, "--layer", "net", "--ip", &ip, "--port", &port];
    let args: Vec<String> = fixed.iter().chain(more).map(|text| (*text).to_owned()).collect();
    soon("its end", start(&args)).await?
}

fn start(args: &[String]) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(ipcpd_udp::io::run(Options::try_parse_from(args).unwrap(), std::future::pending()))
}

pub(crate) fn client(path: PathBuf) -> IpcpClient<Channel> {
    IpcpClient::new(Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect_lazy())
}

/// Two hosts; the first knows that the second serves "echo".
pub(crate) async fn pair() -> (Host, Host) {
    pair_at(SocketAddr::new(address(), PORT), SocketAddr::new(address(), PORT), &[]).await
}

pub(crate) async fn pair_at(a: SocketAddr, b: SocketAddr, more: &[&str]) -> (Host, Host) {
    let mut client = Host::start(a, more).await;
    let mut server = Host::start(b, more).await;
    server.register("echo").await;
    client.knows("echo", b).await;
    (client, server)
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop_irmd();
    }
}

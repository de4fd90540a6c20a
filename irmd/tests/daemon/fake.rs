//! A fake IPCP: says yes to everything, and shows what it was told in its counters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use handoff::Answers;
use proto::calls::Allocs;
use proto::v1::ipcp_server::{Ipcp, IpcpServer};
use proto::v1::irm_for_ipcp_client::IrmForIpcpClient;
use proto::v1::{self, Failure, FailureKind};
use proto::{PROTOCOL_VERSION, RunDir};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};

/// What it was told.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) state: Arc<Mutex<Told>>,
}

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) layer: String,
    pub(crate) names: BTreeMap<String, u64>,
    pub(crate) flows: Vec<v1::FlowInfo>,
    /// Names of other hosts, told to who follows names when it begins.
    pub(crate) known: Vec<&'static str>,
    /// `Flows` never answers.
    pub(crate) stuck: bool,
}

fn done() -> Result<Response<v1::Empty>, Status> {
    Ok(Response::new(v1::Empty {}))
}

#[tonic::async_trait]
impl Ipcp for Fake {
    type FlowsStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::FlowInfo, Status>>>;

    async fn bootstrap(&self, request: Request<v1::BootstrapRequest>) -> Result<Response<v1::BootstrapReply>, Status> {
        let request = request.into_inner();
        if request.udp.is_some_and(|udp| udp.port == 1) {
            return Err(Failure::new(FailureKind::AddressInUse, "127.0.0.1:1 is in use by another socket").into());
        }
        self.state.lock().unwrap().layer = request.layer;
        Ok(Response::new(v1::BootstrapReply { address: "127.0.0.1:3359".into() }))
    }

    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::Empty>, Status> {
        *self.state.lock().unwrap().names.entry(request.into_inner().name).or_default() += 1;
        done()
    }

    async fn unregister(&self, request: Request<v1::UnregisterRequest>) -> Result<Response<v1::Empty>, Status> {
        self.state.lock().unwrap().names.remove(&request.into_inner().name);
        done()
    }

    async fn add_host(&self, _: Request<v1::AddHostRequest>) -> Result<Response<v1::Empty>, Status> {
        done()
    }

    async fn remove_host(&self, _: Request<v1::RemoveHostRequest>) -> Result<Response<v1::Empty>, Status> {
        done()
    }

    type AllocStream = Answers<Allocs>;

    async fn alloc(&self, calls: Request<Streaming<v1::AllocCall>>) -> Result<Response<Self::AllocStream>, Status> {
        let fake = self.clone();
        let work = move |request| fake.clone().allocate(request);
        Ok(Response::new(handoff::answers::<Allocs, _, _>(calls.into_inner(), 100, work)))
    }

    async fn dealloc(&self, request: Request<v1::DeallocRequest>) -> Result<Response<v1::Empty>, Status> {
        let id = request.into_inner().flow_id;
        self.state.lock().unwrap().flows.retain(|row| row.flow_id != id);
        done()
    }

    async fn flows(&self, _: Request<v1::Empty>) -> Result<Response<Self::FlowsStream>, Status> {
        let (stuck, rows) = {
            let told = self.state.lock().unwrap();
            (told.stuck, told.flows.iter().cloned().map(Ok).collect::<Vec<_>>())
        };
        if stuck {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(tokio_stream::iter(rows)))
    }

    async fn flow(&self, request: Request<v1::FlowRequest>) -> Result<Response<v1::FlowInfo>, Status> {
        let id = request.into_inner().flow_id;
        let found = self.state.lock().unwrap().flows.iter().find(|row| row.flow_id == id).cloned();
        found.map(Response::new).ok_or_else(|| Failure::new(FailureKind::NotFound, "no such flow").into())
    }

    async fn report(&self, _: Request<v1::Empty>) -> Result<Response<v1::ReportReply>, Status> {
        let told = self.state.lock().unwrap();
        let counters = told.names.iter().map(|(name, count)| (name.clone(), *count)).collect();
        Ok(Response::new(v1::ReportReply { counters, rss_bytes: 1, ..v1::ReportReply::default() }))
    }

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Result<Response<v1::ResolveReply>, Status> {
        let name = request.into_inner().name;
        let host = v1::ResolvedHost { address: "10.0.0.2:3359".into(), from: "hosts".into(), ..Default::default() };
        let known = !name.starts_with("unknown");
        let outcome = if known { v1::ResolveOutcome::Found } else { v1::ResolveOutcome::Unknown };
        let hosts = if known { vec![host] } else { Vec::new() };
        let step = v1::ResolveStep { source: "hosts".into(), outcome: outcome.into(), hosts, ..Default::default() };
        Ok(Response::new(v1::ResolveReply { steps: vec![step] }))
    }

    type RegistrationsStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::Registration, Status>>>;

    async fn registrations(&self, _: Request<v1::Empty>) -> Result<Response<Self::RegistrationsStream>, Status> {
        Ok(Response::new(tokio_stream::iter(Vec::new())))
    }

    async fn retire(&self, _: Request<v1::Empty>) -> Result<Response<v1::Empty>, Status> {
        done()
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Result<Response<v1::LogState>, Status> {
        Ok(Response::new(v1::LogState { filter: request.into_inner().filter, ..v1::LogState::default() }))
    }

    type NamesStream = Pin<Box<dyn Stream<Item = Result<v1::NamesReply, Status>> + Send>>;

    async fn names(&self, _: Request<v1::NamesRequest>) -> Result<Response<Self::NamesStream>, Status> {
        let known =
            |name: &&str| v1::KnownName { name: (*name).to_owned(), layer: "net".to_owned(), ..Default::default() };
        let names = self.state.lock().unwrap().known.iter().map(known).collect();
        let told = tokio_stream::once(Ok(v1::NamesReply { names, more: false }));
        Ok(Response::new(Box::pin(told.chain(tokio_stream::pending()))))
    }

    type CountsStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::FlowCountsReply, Status>>>;

    async fn counts(&self, _: Request<v1::Empty>) -> Result<Response<Self::CountsStream>, Status> {
        Ok(Response::new(tokio_stream::iter(Vec::new())))
    }

    async fn shutdown(&self, _: Request<v1::Empty>) -> Result<Response<v1::Empty>, Status> {
        if std::env::var_os("FAKE_NAME").is_some() {
            std::process::exit(0);
        }
        done()
    }
}

impl Fake {
    async fn allocate(self, request: v1::AllocRequest) -> Result<v1::AllocReply, Failure> {
        match request.name.as_str() {
            "silent" => std::future::pending().await,
            "unknown" => Err(Failure::new(FailureKind::UnknownName, "no host for the name")),
            _ => {
                let row = v1::FlowInfo {
                    flow_id: request.flow_id,
                    name: request.name,
                    state: v1::FlowState::Allocated.into(),
                    local_address: "127.0.0.1:50000".into(),
                    ..v1::FlowInfo::default()
                };
                self.state.lock().unwrap().flows.push(row);
                let peer_address = "127.0.0.2:40000".into();
                Ok(v1::AllocReply { token: vec![7; 16], peer_address, ..v1::AllocReply::default() })
            }
        }
    }
}

/// Serves at the socket of the IPCP `name` until dropped.
#[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
pub(crate) fn serve(fake: &Fake, run_dir: &RunDir, name: &str) {
    let socket = run_dir.ipcp(name);
    let _ = std::fs::remove_file(&socket);
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let server = tonic::transport::Server::builder().add_service(IpcpServer::new(fake.clone()));
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
}

pub(crate) fn attach_request(run_dir: &RunDir, name: &str, layer: &str) -> v1::AttachRequest {
    v1::AttachRequest {
        version: PROTOCOL_VERSION,
        name: name.into(),
        r#type: "udp".into(),
        socket: run_dir.ipcp(name).display().to_string(),
        handoff: run_dir.ipcp_handoff(name).display().to_string(),
        pid: std::process::id(),
        layer: layer.into(),
        config: (!layer.is_empty()).then(|| v1::UdpConfig { ip: "127.0.0.1".into(), ..v1::UdpConfig::default() }),
        address: "127.0.0.1:3359".into(),
    }
}

/// Not a test: what the host's `ipcpd-udp` executes. Attaches again and again, as the real one does.
#[test]
#[ignore = "run by irmd in other tests"]
fn runs_as_an_ipcp() {
    let (Ok(name), Ok(run)) = (std::env::var("FAKE_NAME"), std::env::var("FAKE_RUN")) else { return };
    if name == "broken" {
        std::process::exit(3);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let run_dir = RunDir::find(Some(&PathBuf::from(run))).unwrap();
        let fake = Fake::default();
        serve(&fake, &run_dir, &name);
        let channel = Endpoint::try_from(format!("unix://{}", run_dir.irmd().display())).unwrap().connect_lazy();
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
        // The folder goes with its test; then this goes too.
        while run_dir.path().exists() {
            let layer = fake.state.lock().unwrap().layer.clone();
            let mut irm = IrmForIpcpClient::new(channel.clone());
            if let Ok(stream) = irm.attach(attach_request(&run_dir, &name, &layer)).await {
                let mut stream = stream.into_inner();
                while let Ok(Some(_)) = stream.message().await {}
            }
            tick.tick().await;
        }
    });
}

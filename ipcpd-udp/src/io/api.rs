//! The gRPC service `Ipcp`: what irmd says to this process.
#![expect(clippy::disallowed_methods, reason = "a listing's task ends with its stream")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use handoff::Answers;
use proto::calls::Allocs;
use proto::v1::ipcp_server::{Ipcp, IpcpServer};
use proto::v1::{self, Empty, Failure, FailureKind};
use proto::{FlowId, MAX_MESSAGE, Qos, protocol_version};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::command::{Command, Page, Reply};
use super::names;
use crate::config::{self, Bootstrap};
use crate::machine::{Ask, Key, Owner};

/// Allocations in progress at most, for as long as their peers think; more wait in irmd.
const CALLS: usize = 20_000;

/// Takes the socket over from a process that is gone, but not from one that lives.
pub(super) async fn bind(path: &Path, name: &str) -> anyhow::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("the run directory {} cannot be made", dir.display()))?;
    }
    if UnixStream::connect(path).await.is_ok() {
        anyhow::bail!("an IPCP {name} runs on {} already; stop it or choose another --name", path.display());
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("the socket {} cannot be made", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("the mode of {} cannot be set", path.display()))?;
    Ok(listener)
}

/// Serves until `stop`, then ends the calls under way.
pub(super) async fn serve(
    listener: UnixListener,
    commands: mpsc::Sender<Command>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let service = IpcpServer::new(Api { commands }).max_decoding_message_size(MAX_MESSAGE);
    let own = rustix::process::geteuid().as_raw();
    let callers = UnixListenerStream::new(listener).map(|stream| stream.and_then(handoff::Stream::try_from));
    let service = tonic::service::interceptor::InterceptedService::new(service, move |request| only_irmd(own, request));
    Server::builder().add_service(service).serve_with_incoming_shutdown(callers, stop).await
}

fn only_irmd(own: u32, request: Request<()>) -> Result<Request<()>, Status> {
    let caller = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match caller.map(|caller| caller.uid()) {
        Some(uid) if uid == 0 || uid == own => Ok(request),
        _ => {
            let text = format!("only irmd, as root or user {own}, speaks to an IPCP; ask irmd with the tool irm");
            Err(Failure::new(FailureKind::NotPermitted, text).into())
        }
    }
}

#[derive(Clone)]
pub(super) struct Api {
    commands: mpsc::Sender<Command>,
}

impl Api {
    pub(super) async fn call<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    async fn allocate(self, request: v1::AllocRequest) -> Result<v1::AllocReply, Failure> {
        let ask = ask(request)?;
        let mut guard = CancelOnDrop { commands: self.commands.clone(), flow: Some(ask.flow) };
        let result = self.call(|reply| Command::Alloc(Box::new(ask), reply)).await;
        guard.flow = None;
        result
    }

    async fn done(&self, command: impl FnOnce(Reply<()>) -> Command) -> Result<Response<Empty>, Status> {
        self.call(command).await?;
        Ok(Response::new(Empty {}))
    }
}

fn stopping() -> Failure {
    Failure::new(FailureKind::IpcpDown, "the IPCP is stopping; try again once it is back")
}

fn missing(what: &str) -> Failure {
    Failure::new(FailureKind::Invalid, format!("the message has no {what}; update irmd and ipcpd-udp together"))
}

/// Tells the machine when the caller of `Alloc` goes away. Where the channel is full, the deadline does.
struct CancelOnDrop {
    commands: mpsc::Sender<Command>,
    flow: Option<FlowId>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(flow) = self.flow {
            let _ = self.commands.try_send(Command::Cancel(flow));
        }
    }
}

fn ask(request: v1::AllocRequest) -> Result<Ask, Failure> {
    let owner = request.process.ok_or_else(|| missing("process"))?;
    Ok(Ask {
        flow: FlowId(request.flow_id),
        name: config::name(&request.name)?,
        source: request.source_name,
        qos: request.qos.map_or(Ok(Qos::raw()), Qos::try_from)?,
        timeout: Duration::from_millis(request.timeout_ms.into()),
        data: request.data,
        owner: owner_of(owner),
    })
}

pub(super) fn owner_of(process: v1::Process) -> Owner {
    let v1::Process { pid, uid, gid, command } = process;
    Owner { pid, uid, gid, command: command.into() }
}

#[tonic::async_trait]
impl Ipcp for Api {
    async fn bootstrap(&self, request: Request<v1::BootstrapRequest>) -> Result<Response<v1::BootstrapReply>, Status> {
        let v1::BootstrapRequest { version, layer, udp, host_key } = request.into_inner();
        let ours = protocol_version();
        if version != ours {
            let text = format!("irmd speaks version {version}, this IPCP version {ours}; update the older of the two");
            return Err(Failure::new(FailureKind::Invalid, text).into());
        }
        let bootstrap = Bootstrap::new(&layer, udp.ok_or_else(|| missing("UDP configuration"))?)?.of_host(&host_key)?;
        self.call(|reply| Command::Bootstrap(Box::new(bootstrap), reply)).await.map(Response::new).map_err(Status::from)
    }

    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<Empty>, Status> {
        let v1::RegisterRequest { name, starts, wait } = request.into_inner();
        let name = config::name(&name)?;
        self.done(|reply| Command::Register { name, starts, wait, reply }).await
    }

    async fn unregister(&self, request: Request<v1::UnregisterRequest>) -> Result<Response<Empty>, Status> {
        let v1::UnregisterRequest { name, wait } = request.into_inner();
        let name = config::name(&name)?;
        self.done(|reply| Command::Unregister { name, wait, reply }).await
    }

    async fn add_host(&self, request: Request<v1::AddHostRequest>) -> Result<Response<Empty>, Status> {
        let (name, shim) = config::static_host(&request.into_inner().host.ok_or_else(|| missing("host"))?)?;
        self.done(|reply| Command::AddHost(name, shim, reply)).await
    }

    async fn remove_host(&self, request: Request<v1::RemoveHostRequest>) -> Result<Response<Empty>, Status> {
        let name = config::name(&request.into_inner().name)?;
        self.done(|reply| Command::RemoveHost(name, reply)).await
    }

    type AllocStream = Answers<Allocs>;

    async fn alloc(&self, calls: Request<Streaming<v1::AllocCall>>) -> Result<Response<Self::AllocStream>, Status> {
        let api = self.clone();
        let work = move |request| api.clone().allocate(request);
        Ok(Response::new(handoff::answers::<Allocs, _, _>(calls.into_inner(), CALLS, work)))
    }

    async fn dealloc(&self, request: Request<v1::DeallocRequest>) -> Result<Response<Empty>, Status> {
        let flow = FlowId(request.into_inner().flow_id);
        self.done(|reply| Command::Dealloc(flow, reply)).await
    }

    type FlowsStream = ReceiverStream<Result<v1::FlowInfo, Status>>;

    async fn flows(&self, _: Request<Empty>) -> Result<Response<Self::FlowsStream>, Status> {
        let (sender, stream) = mpsc::channel(64);
        let first = self.call(|reply| Command::Page(Key(0), reply)).await?;
        tokio::spawn(list(self.commands.clone(), first, sender));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn flow(&self, request: Request<v1::FlowRequest>) -> Result<Response<v1::FlowInfo>, Status> {
        let flow = FlowId(request.into_inner().flow_id);
        self.call(|reply| Command::Flow(flow, reply)).await.map(Response::new).map_err(Status::from)
    }

    async fn report(&self, _: Request<Empty>) -> Result<Response<v1::ReportReply>, Status> {
        self.call(Command::Report).await.map(Response::new).map_err(Status::from)
    }

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Result<Response<v1::ResolveReply>, Status> {
        let name = config::name(&request.into_inner().name)?;
        self.call(|reply| Command::Resolve(name, reply)).await.map(Response::new).map_err(Status::from)
    }

    type RegistrationsStream = ReceiverStream<Result<v1::Registration, Status>>;

    async fn registrations(&self, _: Request<Empty>) -> Result<Response<Self::RegistrationsStream>, Status> {
        let (sender, stream) = mpsc::channel(64);
        tokio::spawn(list_registrations(self.clone(), sender));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Result<Response<v1::LogState>, Status> {
        Ok(Response::new(logs::answer(request.get_ref())?))
    }

    async fn retire(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.done(Command::Retire).await
    }

    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.done(Command::Shutdown).await
    }

    type NamesStream = ReceiverStream<Result<v1::NamesReply, Status>>;

    async fn names(&self, request: Request<v1::NamesRequest>) -> Result<Response<Self::NamesStream>, Status> {
        let prefix = config::name(&request.into_inner().prefix)?;
        let first = self.call(|reply| Command::Names(prefix.clone(), reply)).await?;
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(names::tell(self.clone(), prefix, first, sender));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type CountsStream = ReceiverStream<Result<v1::FlowCountsReply, Status>>;

    async fn counts(&self, _: Request<Empty>) -> Result<Response<Self::CountsStream>, Status> {
        let (sender, stream) = mpsc::channel(2);
        tokio::spawn(list_counts(self.clone(), sender));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Pages through the flows, as fast as the caller reads.
async fn list(commands: mpsc::Sender<Command>, mut page: Page, rows: mpsc::Sender<Result<v1::FlowInfo, Status>>) {
    loop {
        for row in page.rows {
            if rows.send(Ok(row)).await.is_err() {
                return;
            }
        }
        let Some(next) = page.next else { return };
        let (reply, answer) = oneshot::channel();
        if commands.send(Command::Page(next, reply)).await.is_err() {
            return;
        }
        match answer.await {
            Ok(Ok(more)) => page = more,
            Ok(Err(failure)) => return drop(rows.send(Err(failure.into())).await),
            Err(_) => return,
        }
    }
}

/// Pages through the registered names, as fast as the caller reads.
async fn list_registrations(api: Api, rows: mpsc::Sender<Result<v1::Registration, Status>>) {
    let mut after = None;
    loop {
        let page = match api.call(|reply| Command::Registrations(after, reply)).await {
            Ok(page) => page,
            Err(failure) => return drop(rows.send(Err(failure.into())).await),
        };
        for row in page.0 {
            if rows.send(Ok(row)).await.is_err() {
                return;
            }
        }
        after = page.1;
        if after.is_none() {
            return;
        }
    }
}

/// Pages through the flows' counts, as fast as the caller reads.
async fn list_counts(api: Api, pages: mpsc::Sender<Result<v1::FlowCountsReply, Status>>) {
    let mut after = Some(Key(0));
    while let Some(key) = after {
        let page = match api.call(|reply| Command::Counts(key, reply)).await {
            Ok(page) => page,
            Err(failure) => return drop(pages.send(Err(failure.into())).await),
        };
        after = page.next;
        if pages.send(Ok(page.page)).await.is_err() {
            return;
        }
    }
}

//! gRPC towards IPCPs.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use handoff::Caller;
use proto::calls::Allocs;
use proto::v1::ipcp_client::IpcpClient;
use proto::v1::{self, Failure, FailureKind};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::machine::{IpcpAnswer, IpcpCall};

/// How long a listing waits for one IPCP.
const LISTING: Duration = Duration::from_secs(2);

/// How long somebody who wants to see waits for one IPCP and its name servers.
const RESOLVING: Duration = Duration::from_secs(4);

/// The way to an IPCP.
#[derive(Clone, Debug)]
pub(super) struct Link {
    client: IpcpClient<Channel>,
    allocs: Caller<Allocs>,
}

/// Ways to the attached IPCPs, by name. Shared by the machine's owner and the handlers of listings.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    map: Arc<DashMap<String, Link>>,
    changed: watch::Sender<u64>,
}

impl Links {
    /// An IPCP serves at this socket from now on. Dials when first used.
    pub(super) fn connect(&self, ipcp: &str, socket: &str) {
        let client = IpcpClient::new(handoff::channel(socket)).max_decoding_message_size(proto::MAX_MESSAGE);
        self.map.insert(ipcp.to_owned(), Link { client, allocs: Caller::default() });
        self.changed.send_modify(|count| *count += 1);
    }

    /// It does no more.
    pub(super) fn disconnect(&self, ipcp: &str) {
        self.map.remove(ipcp);
        self.changed.send_modify(|count| *count += 1);
    }

    /// The way to an IPCP, if it is attached.
    pub(super) fn get(&self, ipcp: &str) -> Option<Link> {
        self.map.get(ipcp).map(|link| link.clone())
    }

    /// Changes when one comes or goes.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All that are attached.
    pub(super) fn all(&self) -> Vec<(String, Link)> {
        self.map.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect()
    }
}

/// Asks an IPCP; always answers, in time.
pub(super) async fn ask(link: Option<Link>, ipcp: &str, what: &IpcpCall) -> Result<IpcpAnswer, Failure> {
    let Some(link) = link else {
        return Err(Failure::new(FailureKind::IpcpDown, format!("IPCP {ipcp} is not attached; see irm ipcp list")));
    };
    let within = match what {
        IpcpCall::Alloc(request) => Duration::from_millis(request.timeout_ms.into()) + Duration::from_secs(1),
        IpcpCall::Bootstrap(_) => Duration::from_secs(10),
        _ => Duration::from_secs(5),
    };
    match tokio::time::timeout(within, send(link, what)).await {
        Ok(answer) => answer.map_err(|status| Failure::from_status(&status)),
        Err(_) => {
            let text = format!("IPCP {ipcp} did not answer within {} ms; see irm ipcp list", within.as_millis());
            Err(Failure::new(FailureKind::TimedOut, text))
        }
    }
}

async fn send(link: Link, what: &IpcpCall) -> Result<IpcpAnswer, Status> {
    let Link { mut client, allocs } = link;
    let done = |_: Response<v1::Empty>| IpcpAnswer::Done;
    match what {
        IpcpCall::Bootstrap(request) => {
            let reply = client.bootstrap(v1::BootstrapRequest::clone(request)).await?;
            Ok(IpcpAnswer::Address(reply.into_inner().address))
        }
        IpcpCall::Register(name, starts) | IpcpCall::Publish(name, starts) => {
            let wait = matches!(what, IpcpCall::Publish(..));
            client.register(v1::RegisterRequest { name: name.to_string(), starts: *starts, wait }).await.map(done)
        }
        IpcpCall::Unregister(name) | IpcpCall::Retract(name) => {
            let wait = matches!(what, IpcpCall::Retract(_));
            client.unregister(v1::UnregisterRequest { name: name.to_string(), wait }).await.map(done)
        }
        IpcpCall::AddHost(_, host) => client.add_host(v1::AddHostRequest { host: Some(host.clone()) }).await.map(done),
        IpcpCall::RemoveHost(_, name) => {
            client.remove_host(v1::RemoveHostRequest { name: name.clone() }).await.map(done)
        }
        IpcpCall::Alloc(request) => {
            let open = |questions| async move { client.alloc(questions).await };
            allocs.call(open, request.clone()).await.map(IpcpAnswer::Allocated)
        }
        IpcpCall::Dealloc(flow) => client.dealloc(v1::DeallocRequest { flow_id: flow.0 }).await.map(done),
        IpcpCall::Flows => flows(&mut client).await.map(IpcpAnswer::Flows),
        IpcpCall::Shutdown => client.shutdown(v1::Empty {}).await.map(done),
    }
}

async fn flows(client: &mut IpcpClient<Channel>) -> Result<Vec<v1::FlowInfo>, Status> {
    let mut stream = client.flows(v1::Empty {}).await?.into_inner();
    let mut rows = Vec::new();
    while let Some(row) = stream.next().await {
        rows.push(row?);
    }
    Ok(rows)
}

/// An IPCP's flows for a listing; `None`: it is stuck, or gone.
pub(super) async fn list_flows(mut link: Link, ipcp: &str) -> Option<tonic::Streaming<v1::FlowInfo>> {
    in_time(ipcp, link.client.flows(v1::Empty {})).await.map(Response::into_inner)
}

/// The next of them, `Some(None)` after the last; `None`: it is stuck, or gone.
pub(super) async fn next_flow(
    rows: &mut tonic::Streaming<v1::FlowInfo>,
    ipcp: &str,
) -> Option<Option<Box<v1::FlowInfo>>> {
    in_time(ipcp, async { Ok(rows.message().await?.map(Box::new)) }).await
}

/// One of its flows.
pub(super) async fn show_flow(mut link: Link, ipcp: &str, flow_id: u64) -> Option<v1::FlowInfo> {
    in_time(ipcp, link.client.flow(v1::FlowRequest { flow_id })).await.map(Response::into_inner)
}

/// The counts of its flows, page by page; ends where it has no more, or is stuck.
pub(super) async fn counts(mut link: Link, ipcp: &str) -> Option<tonic::Streaming<v1::FlowCountsReply>> {
    in_time(ipcp, link.client.counts(v1::Empty {})).await.map(Response::into_inner)
}

/// The next of those pages.
pub(super) async fn next_counts(
    pages: &mut tonic::Streaming<v1::FlowCountsReply>,
    ipcp: &str,
) -> Option<v1::FlowCountsReply> {
    in_time(ipcp, pages.message()).await.flatten()
}

/// Its counters.
pub(super) async fn report(mut link: Link, ipcp: &str) -> Option<v1::ReportReply> {
    in_time(ipcp, link.client.report(v1::Empty {})).await.map(Response::into_inner)
}

/// What it logs, after a change if the request says one.
pub(super) async fn log(mut link: Link, request: v1::LogRequest) -> Result<v1::LogState, Failure> {
    match tokio::time::timeout(LISTING, link.client.log(request)).await {
        Ok(Ok(state)) => Ok(state.into_inner()),
        Ok(Err(status)) => Err(Failure::from_status(&status)),
        Err(_) => Err(Failure::new(FailureKind::TimedOut, "it did not answer in time; see irm ipcp list")),
    }
}

/// How its names stand in its layer's directory.
pub(super) async fn registrations(mut link: Link, ipcp: &str) -> Option<Vec<v1::Registration>> {
    let rows = async {
        let mut stream = link.client.registrations(v1::Empty {}).await?.into_inner();
        let mut rows = Vec::new();
        while let Some(row) = stream.next().await {
            rows.push(row?);
        }
        Ok(rows)
    };
    in_time(ipcp, rows).await
}

/// The names that it knows of other hosts, each time they change; `None`: it has no layer, is stuck, or gone.
pub(super) async fn names(mut link: Link, request: v1::NamesRequest) -> Option<tonic::Streaming<v1::NamesReply>> {
    let names = tokio::time::timeout(LISTING, link.client.names(request)).await;
    names.ok()?.ok().map(Response::into_inner)
}

/// Its names leave their directory, if that can be done in time.
pub(super) async fn retire(mut link: Link, ipcp: &str) {
    let _ = in_time(ipcp, link.client.retire(v1::Empty {})).await;
}

/// What its layer's directory says of a name; it may have to ask name servers.
pub(super) async fn resolve(mut link: Link, name: &str) -> Result<Vec<v1::ResolveStep>, Failure> {
    let call = link.client.resolve(v1::ResolveRequest { name: name.to_owned() });
    match tokio::time::timeout(RESOLVING, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner().steps),
        Ok(Err(status)) => Err(Failure::from_status(&status)),
        Err(_) => Err(Failure::new(FailureKind::TimedOut, "the IPCP did not answer in time; see irm ipcp list")),
    }
}

async fn in_time<T>(ipcp: &str, call: impl Future<Output = Result<T, Status>>) -> Option<T> {
    match tokio::time::timeout(LISTING, call).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(status)) => {
            tracing::warn!("IPCP {ipcp} has no answer for a listing: {}", status.message());
            None
        }
        Err(_) => {
            tracing::warn!("IPCP {ipcp} is stuck: no answer for a listing within {} s", LISTING.as_secs());
            None
        }
    }
}

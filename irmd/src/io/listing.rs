//! Listings: what the registry knows, with the figures of IPCPs and of the hand-over beside it.
#![expect(clippy::disallowed_methods, reason = "a listing's task ends with its stream")]

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::time::Duration;

use handoff::server::{Figures, Server};
use proto::{FlowId, v1};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use super::api_irm::nonsense;
use super::calls::Asker;
use super::ipcp::{self, Links};
use super::local::Sockets;
use crate::machine::{Caller, Command, FlowRow, Listed, Local, Reply};

/// What each attached IPCP reports of itself, by name; those that are stuck are left out.
pub(super) async fn reports(links: &Links) -> HashMap<String, v1::ReportReply> {
    let mut reports = JoinSet::new();
    for (name, client) in links.all() {
        reports.spawn(async move {
            let report = ipcp::report(client, &name).await;
            (name, report)
        });
    }
    reports.join_all().await.into_iter().filter_map(|(name, report)| Some((name, report?))).collect()
}

/// Adds what each attached IPCP reports of itself; one that is stuck is left as the registry knows it.
pub(super) async fn add_reports(links: &Links, infos: &mut [v1::IpcpInfo]) {
    let reports = reports(links).await;
    for info in infos {
        if let Some(report) = reports.get(&info.name) {
            info.flows = report.flows;
            info.counters.clone_from(&report.counters);
            info.rss_bytes = report.rss_bytes;
            info.session.clone_from(&report.session);
            info.router_maps.clone_from(&report.router_maps);
            if !report.address.is_empty() {
                info.address.clone_from(&report.address);
            }
        }
    }
}

/// Adds how each name stands in the directories of its layers.
pub(super) async fn add_registrations(links: &Links, names: &mut [v1::NameInfo]) {
    let mut answers = JoinSet::new();
    for (ipcp, client) in links.all() {
        answers.spawn(async move { ipcp::registrations(client, &ipcp).await });
    }
    let mut by_name: HashMap<String, Vec<v1::Registration>> = HashMap::new();
    for row in answers.join_all().await.into_iter().flatten().flatten() {
        by_name.entry(row.name.clone()).or_default().push(row);
    }
    for info in names {
        info.registrations = by_name.remove(&info.name).unwrap_or_default();
        info.registrations.sort_by(|a, b| a.layer.cmp(&b.layer));
    }
}

/// What every source says of a name, in the order in which a flow asks them; the first that has a host wins.
pub(super) async fn resolve(
    links: &Links,
    name: &str,
    here: v1::ResolveStep,
    ipcps: Vec<(String, String)>,
) -> Vec<v1::ResolveStep> {
    let mut answers = JoinSet::new();
    for (order, (ipcp, layer)) in ipcps.into_iter().enumerate() {
        let (link, name) = (links.get(&ipcp), name.to_owned());
        answers.spawn(async move {
            let steps = match link {
                Some(link) => ipcp::resolve(link, &name).await.unwrap_or_else(|failure| vec![failed(failure.message)]),
                None => vec![failed(format!("IPCP {ipcp} is not running; see irm ipcp list"))],
            };
            let of = |step| v1::ResolveStep { ipcp: ipcp.clone(), layer: layer.clone(), ..step };
            (order, steps.into_iter().map(of).collect::<Vec<_>>())
        });
    }
    let mut answers = answers.join_all().await;
    answers.sort_by_key(|(order, _)| *order);
    let mut steps = vec![here];
    steps.extend(answers.into_iter().flat_map(|(_, steps)| steps));
    if !steps[0].won {
        let reaches = |step: &&mut v1::ResolveStep| {
            step.outcome() == v1::ResolveOutcome::Found && step.hosts.iter().any(|host| host.ignored.is_empty())
        };
        if let Some(first) = steps.iter_mut().find(reaches) {
            first.won = true;
        }
    }
    steps
}

fn failed(said: String) -> v1::ResolveStep {
    let outcome = v1::ResolveOutcome::Failed.into();
    v1::ResolveStep { source: "layer".into(), outcome, said, ..Default::default() }
}

/// Flows, one by one.
pub(super) type Flows = Pin<Box<dyn Stream<Item = Result<v1::FlowInfo, Status>> + Send>>;

/// Rows that wait for their reader.
const AHEAD: usize = 256;

/// What flows are listed from.
pub(super) struct Sources {
    pub(super) asker: Asker,
    pub(super) links: Links,
    pub(super) looks: Looks,
}

/// All flows that the caller may see, as fast as it reads: local ones with their counters, the others as their IPCPs know
/// them; those of an IPCP that is stuck or gone as the registry knows them. `ended`: those that ended lately, too.
pub(super) fn flows(sources: Sources, caller: Caller, ended: bool) -> Flows {
    let (rows, stream) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let _ = Telling { sources, caller, rows }.all(ended).await;
    });
    Box::pin(ReceiverStream::new(stream).map(|row| row.map(|row| *row)))
}

/// A listing on its way.
struct Telling {
    sources: Sources,
    caller: Caller,
    /// In boxes: rows are long, and what is long is not moved about.
    rows: mpsc::Sender<Result<Box<v1::FlowInfo>, Status>>,
}

/// Nobody reads any more.
struct Unread;

impl Telling {
    async fn all(&self, and_ended: bool) -> Result<(), Unread> {
        // All IPCPs begin at once.
        let mut asked = JoinSet::new();
        for (name, link) in self.sources.links.all() {
            asked.spawn(async move { Some((ipcp::list_flows(link, &name).await?, name)) });
        }
        let asked: Vec<_> = asked.join_all().await.into_iter().flatten().collect();
        let told_by: Vec<String> = asked.iter().map(|(_, name)| name.clone()).collect();
        let mut peers = HashMap::new();
        let (user, known) = self.known(Listed { ended: and_ended, told_by: told_by.clone() }).await?;
        for row in known {
            if !ended(&row.info) && told_by.contains(&row.info.ipcp) {
                peers.insert(row.info.flow_id, Box::new(row.info));
            } else {
                self.tell(Box::new(self.sources.looks.add_to(row))).await?;
            }
        }
        for (stream, name) in asked {
            self.of_ipcp(&name, stream, user, &peers).await?;
        }
        Ok(())
    }

    /// What the registry knows, and whether that is one user's only.
    async fn known(&self, listed: Listed) -> Result<(Option<u32>, Vec<FlowRow>), Unread> {
        let status = match self.sources.asker.ask(self.caller.clone(), Command::FlowList(listed)).await {
            Ok(Reply::Flows(rows)) => return Ok((None, rows)),
            Ok(Reply::FlowsOf(user, rows)) => return Ok((Some(user), rows)),
            Ok(other) => nonsense(&other).into(),
            Err(failure) => failure.into(),
        };
        let _ = self.rows.send(Err(status)).await;
        Err(Unread)
    }

    /// What an IPCP says of its flows, with who the peers are. If it is stuck or gone before its last, the rest is what
    /// the registry knows.
    async fn of_ipcp(
        &self,
        name: &str,
        mut stream: Streaming<v1::FlowInfo>,
        user: Option<u32>,
        peers: &HashMap<u64, Box<v1::FlowInfo>>,
    ) -> Result<(), Unread> {
        let is = |process: &Option<v1::Process>, uid| process.as_ref().is_some_and(|process| process.uid == uid);
        let mut told = HashSet::new();
        while let Some(next) = ipcp::next_flow(&mut stream, name).await {
            let Some(mut row) = next else { return Ok(()) };
            told.insert(row.flow_id);
            add_known(peers.get(&row.flow_id).map(Box::as_ref), name, &mut row);
            if user.is_none_or(|uid| is(&row.process, uid) || is(&row.peer_process, uid)) {
                self.tell(row).await?;
            }
        }
        let (_, known) = self.known(Listed::default()).await?;
        for row in known.into_iter().filter(|row| row.info.ipcp == name && !told.contains(&row.info.flow_id)) {
            self.tell(Box::new(row.info)).await?;
        }
        Ok(())
    }

    async fn tell(&self, row: Box<v1::FlowInfo>) -> Result<(), Unread> {
        self.rows.send(Ok(row)).await.map_err(|_| Unread)
    }
}

/// One flow, the same way.
pub(super) async fn flow(links: &Links, looks: &Looks, row: FlowRow) -> v1::FlowInfo {
    let ipcp = row.info.ipcp.clone();
    match links.get(&ipcp).filter(|_| !ended(&row.info)) {
        Some(client) => match ipcp::show_flow(client, &ipcp, row.info.flow_id).await {
            Some(mut shown) => {
                add_known(Some(&row.info), &ipcp, &mut shown);
                with_history(row.info.history, shown)
            }
            None => row.info,
        },
        None => looks.add_to(row),
    }
}

/// Adds to a row as its IPCP knows it who its peer has shown to be: that only irmd knows.
fn add_known(known: Option<&v1::FlowInfo>, ipcp: &str, row: &mut v1::FlowInfo) {
    ipcp.clone_into(&mut row.ipcp);
    if let Some(known) = known.filter(|known| known.ipcp == ipcp) {
        row.peer_identity.clone_from(&known.peer_identity);
        row.peer_certified.clone_from(&known.peer_certified);
        row.trusted_by.clone_from(&known.trusted_by);
    }
}

/// The steps that irmd and the IPCP each know of, in order.
fn with_history(mut known: Vec<v1::FlowStep>, row: v1::FlowInfo) -> v1::FlowInfo {
    known.extend(row.history);
    known.sort_by_key(|step| std::cmp::Reverse(step.ms_ago));
    v1::FlowInfo { history: known, ..row }
}

fn ended(info: &v1::FlowInfo) -> bool {
    info.state() == v1::FlowState::Ended
}

/// At what is not the machine's: what programs of local flows count, and what the kernel says of their sockets.
pub(super) struct Looks {
    pub(super) handoff: Server,
    pub(super) sockets: Sockets,
}

impl Looks {
    fn add_to(&self, row: FlowRow) -> v1::FlowInfo {
        let mut info = row.info;
        if !info.ipcp.is_empty() || ended(&info) {
            return info;
        }
        let own = self.handoff.figures(FlowId(info.flow_id));
        let peer = row.peer.and_then(|peer| self.handoff.figures(peer));
        let idle = own.iter().chain(&peer).filter_map(Figures::idle_ms).min();
        if own.is_some() || peer.is_some() {
            info.idle_ms = Some(idle.unwrap_or(info.age_ms).min(info.age_ms));
        }
        if let Some(own) = own {
            (info.sent_ms_ago, info.received_ms_ago) = (own.sent_ms_ago, own.received_ms_ago);
            info.counters = Some(own.counters);
        }
        info.peer_counters = peer.map(|peer| peer.counters);
        if let Some([socket, peer]) = self.sockets.look(FlowId(info.flow_id)) {
            (info.socket, info.peer_socket) = (Some(socket), Some(peer));
        }
        info
    }
}

/// Pages of counts.
pub(super) type Counts = ReceiverStream<Result<v1::FlowCountsReply, Status>>;

/// Rows of a page of local flows.
const PAGE: usize = 1_024;

/// A page that its reader leaves unread for so long is the last: what an IPCP says beside it waits meanwhile.
const PAGE_WITHIN: Duration = Duration::from_secs(5);

/// The counts of local flows, then those of each IPCP's, as fast as the caller reads. `only`: the flows it may see; `turn`
/// is held until the end.
pub(super) fn counts(
    links: &Links,
    handoff: &Server,
    local: Vec<Local>,
    only: Option<HashSet<u64>>,
    turn: Option<OwnedSemaphorePermit>,
) -> Counts {
    let (pages, stream) = mpsc::channel(2);
    let (ipcps, handoff) = (links.all(), handoff.clone());
    tokio::spawn(async move {
        let _turn = turn;
        for some in local.chunks(PAGE) {
            if pages.send_timeout(Ok(local_page(&handoff, some)), PAGE_WITHIN).await.is_err() {
                return;
            }
        }
        for (ipcp, link) in ipcps {
            let Some(mut theirs) = ipcp::counts(link, &ipcp).await else { continue };
            while let Some(mut page) = ipcp::next_counts(&mut theirs, &ipcp).await {
                if let Some(only) = &only {
                    page.retain(|id| only.contains(&id));
                }
                if pages.send_timeout(Ok(page), PAGE_WITHIN).await.is_err() {
                    return;
                }
            }
        }
    });
    ReceiverStream::new(stream)
}

fn local_page(handoff: &Server, flows: &[Local]) -> v1::FlowCountsReply {
    let mut page = v1::FlowCountsReply { read_us: handoff::monotonic_us(), ..Default::default() };
    for Local { flow, peer, state, age_ms } in flows {
        let own = handoff.figures(*flow);
        let peer = peer.and_then(|peer| handoff.figures(peer));
        let idle = own.iter().chain(&peer).filter_map(Figures::idle_ms).min().unwrap_or(*age_ms).min(*age_ms);
        page.push(flow.0, *state, own.map(|own| own.counters), idle, None);
    }
    page
}

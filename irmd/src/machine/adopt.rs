//! Flows that outlived an irmd: programs bring the ends of local ones back, IPCPs tell of theirs.

use std::time::{Duration, Instant};

use proto::FlowId;
use proto::v1::{self, Failure, FailureKind};

use super::flow::{Flow, Local, Stage, Way};
use super::ticket::Ticket;
use super::transitions::Kind;
use super::{Answer, Caller, Irm, Reply, fail};

/// After a restart nobody is told so soon that a name is unknown, and no program is started: processes that serve names
/// come back within this time.
pub const RETURN_WITHIN: Duration = Duration::from_secs(1);

/// An end of a local flow that was brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The end's id, as it was.
    pub end: FlowId,
    /// The row it belongs to; `None`: the other end is gone, and so is the flow.
    pub row: Option<FlowId>,
}

impl Irm {
    /// A program brings an end of a local flow back: its socket has this `cookie`, and `over` says that nobody holds the
    /// other end any more.
    pub fn adopt(
        &mut self,
        now: Instant,
        caller: Caller,
        sealed: &[u8],
        cookie: u64,
        over: bool,
    ) -> Result<Adopted, Failure> {
        let process = self.processes.describe(&caller);
        let result = self.take_back_end(now, &process, sealed, cookie, over);
        let counter = if result.is_ok() { "adopted" } else { "refused_tickets" };
        *self.refused.entry(counter).or_default() += 1;
        result
    }

    fn take_back_end(
        &mut self,
        now: Instant,
        process: &v1::Process,
        sealed: &[u8],
        cookie: u64,
        over: bool,
    ) -> Result<Adopted, Failure> {
        let refused = |text: &str| fail(FailureKind::NotPermitted, text);
        let ticket = Ticket::open(&self.settings.ticket_key, sealed)
            .ok_or_else(|| refused("the ticket is not one of this irmd's; allocate the flow anew"))?;
        if ticket.uid != process.uid {
            return Err(refused("the ticket belongs to another user; allocate the flow anew"));
        }
        if ticket.cookie != cookie {
            return Err(refused("the socket is not the one of the ticket; allocate the flow anew"));
        }
        let (end, asking) = (ticket.end(), !ticket.accepting);
        let here =
            || fail(FailureKind::AlreadyExists, format!("flow {end} is here already; it cannot be brought back twice"));
        let row = ticket.row;
        match self.flows.row(row) {
            Some(_) if !self.flows.lacks_end(row, ticket.peer, asking) => return Err(here()),
            Some(_) => {
                self.flows.give_end(row, asking, process);
                self.note_whole(row);
            }
            None if self.flows.row(ticket.peer).is_some() => return Err(here()),
            None if over => return Ok(Adopted { end, row: None }),
            None if self.flows.len() >= self.settings.flows => {
                let text = format!("this irmd holds {} flows, as many as it may; deallocate some", self.flows.len());
                return Err(self.exhausted("refused_flows", text));
            }
            None => self.restore_local(now, process, ticket),
        }
        self.flow_log(row, format!("flow {row} within this host: process {} brought end {end} back", process.pid));
        Ok(Adopted { end, row: Some(row) })
    }

    fn restore_local(&mut self, now: Instant, process: &v1::Process, ticket: Ticket) {
        let row = ticket.row;
        let [timeout_ms, keepalive_ms] = ticket.timeouts;
        let process = Some(process.clone());
        let (caller, to) = if ticket.accepting { (None, process) } else { (process, None) };
        self.flows.restore(Flow {
            id: ticket.row,
            name: ticket.name,
            source: ticket.source,
            qos: v1::QosSpec { cube: ticket.cube.into(), timeout_ms, keepalive_ms },
            since: self.epoch.to_instant(ticket.born, now),
            known: now,
            deadline: now,
            data: Vec::new(),
            stage: Stage::Allocated { to },
            way: Way::Local(Box::new(Local {
                caller: caller.unwrap_or_default(),
                tokens: [proto::Token([0; 16]); 2],
                peer: Some(ticket.peer),
                taken: [true; 2],
            })),
            peer: None,
            past: Default::default(),
        });
        self.begun(row, v1::EventKind::Returned);
    }

    /// What the ticket of a local flow's end says; its socket's cookie is not known yet.
    pub(super) fn ticket(&self, row: FlowId, peer: FlowId, accepting: bool, uid: u32) -> Option<Ticket> {
        let flow = self.flows.get(row)?;
        let v1::QosSpec { timeout_ms, keepalive_ms, .. } = flow.qos;
        Some(Ticket {
            row,
            peer,
            accepting,
            uid,
            cookie: 0,
            born: self.epoch.to_host(flow.since),
            timeouts: [timeout_ms, keepalive_ms],
            cube: flow.qos.cube(),
            name: flow.name.clone(),
            source: flow.source.clone(),
        })
    }

    /// A program found its end closed. Where the other end was never brought back, nobody else will tell why.
    pub fn suspected(&mut self, end: FlowId) {
        let Some(row) = self.flows.row(end) else { return };
        let Some(Flow { way: Way::Local(local), .. }) = self.flows.get(row) else { return };
        let Some(peer) = local.peer else { return };
        let other = if end == row { peer } else { row };
        if self.flows.lacks_end(row, peer, other == row) {
            self.end_local(other, v1::EndReason::PeerUnknown, true);
        }
    }

    /// An IPCP tells of flows that programs brought back to it.
    pub(super) fn flows_adopted(&mut self, now: Instant, infos: Vec<v1::FlowInfo>) -> Answer {
        for info in infos {
            // Of one that is not in its layer any more nobody would hear the end.
            if self.ipcps.get(&info.ipcp).is_some_and(|ipcp| ipcp.operational().is_some()) {
                let ipcp = info.ipcp.clone();
                self.take_over(now, &ipcp, info);
            }
        }
        Ok(Some(Reply::Done))
    }

    /// Whether an irmd ran here before, and what it knew may not all have come back yet.
    pub(super) fn is_returning(&self, now: Instant) -> bool {
        self.settings.restarted && now < self.since + RETURN_WITHIN
    }

    /// For a caller that is told of something unknown: after a restart it is to ask again.
    pub(super) fn unless_returning(&self, now: Instant, failure: Failure) -> Failure {
        let unknown =
            [FailureKind::UnknownName, FailureKind::NoSuchLayer, FailureKind::NotFound, FailureKind::IpcpDown];
        if !self.is_returning(now) || !unknown.contains(&failure.kind()) {
            return failure;
        }
        let text = format!("irmd was restarted a moment ago and may not know all yet: ask again ({})", failure.message);
        fail(FailureKind::Recovering, text)
    }
}

impl super::flow::Flows {
    /// Whether the row is a local flow of these two ends of which one was not brought back yet: the asking one, or the other.
    pub(super) fn lacks_end(&self, row: FlowId, peer: FlowId, asking: bool) -> bool {
        let Some(Flow { way: Way::Local(local), stage, .. }) = self.get(row) else { return false };
        let lacks = match stage {
            Stage::Allocated { .. } if asking => local.caller.pid == 0,
            Stage::Allocated { to } => to.is_none(),
            _ => false,
        };
        lacks && local.peer == Some(peer)
    }

    /// An end that was lacking is there again.
    fn give_end(&mut self, row: FlowId, asking: bool, process: &v1::Process) {
        self.change(row, |flow| match (&mut flow.way, &mut flow.stage) {
            (Way::Local(local), _) if asking => local.caller = process.clone(),
            (_, Stage::Allocated { to }) => *to = Some(process.clone()),
            _ => debug_assert_eq!(flow.stage.kind(), Kind::Allocated),
        });
    }
}

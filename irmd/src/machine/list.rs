//! What the registry shows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proto::v1::{self, Failure};
use proto::{FlowId, protocol_version};

use super::flow::{Flow, In, Local, Out, Peer, Stage, Way};
use super::history::{Gone, Record};
use super::ipcp::{RECONCILE_AFTER, State};
use super::leave::no_flow;
use super::policy::Rank;
use super::transitions::{Event, Kind};
use super::{Answer, Caller, FlowRow, IpcpAnswer, Irm, Listed, Reply};

impl Irm {
    pub(super) fn status(&self, now: Instant) -> Answer {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Some(Reply::Status(v1::StatusReply {
            version: protocol_version(),
            build: env!("CARGO_PKG_VERSION").into(),
            pid: self.settings.pid,
            uptime_ms: millis(now, self.since),
            names: count(self.names.len()),
            processes: count(self.processes.len()),
            flows: count(self.flows.len() - self.flows.pending()),
            pending: count(self.flows.pending()),
            ipcps: self.ipcp_infos(),
            counters: self.refused.iter().map(|(what, n)| ((*what).to_owned(), *n)).collect(),
            ..self.history.figures()
        })))
    }

    pub(super) fn ipcp_infos(&self) -> Vec<v1::IpcpInfo> {
        let mut flows: HashMap<&str, u32> = HashMap::new();
        for flow in self.flows.iter().filter(|flow| flow.stage.kind() == Kind::Allocated) {
            *flows.entry(flow.ipcp()).or_default() += 1;
        }
        self.ipcps.iter().map(|i| i.info(flows.get(i.name.as_str()).copied().unwrap_or(0))).collect()
    }

    /// All names; what programs and processes there are only to their users and to administrators.
    pub(super) fn name_infos(&self, caller: &Caller) -> Vec<v1::NameInfo> {
        let all = self.rank(caller) >= Rank::Administrator;
        let own = |uid: u32| all || uid == caller.uid;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let process = |pid| self.processes.get(pid).map(|p| p.process.clone()).filter(|p| own(p.uid));
        let program = |p: &super::program::Program| v1::BoundProgram {
            path: p.path.clone(),
            args: p.args.clone(),
            auto_start: p.auto,
            user: p.user.as_ref().map(|user| user.as_str().to_owned()).unwrap_or_default(),
        };
        let ours = |p: &&super::program::Program| own(p.uid(self.settings.uid));
        self.names
            .iter()
            .map(|(name, entry)| v1::NameInfo {
                name: name.to_string(),
                policy: entry.policy.message().into(),
                programs: entry.programs.iter().filter(ours).map(program).collect(),
                processes: entry.processes().filter_map(process).collect(),
                layers: entry.layers.to_texts(),
                accepting: count(entry.accepting()),
                pending: count(entry.backlog.len()),
                // The IPCPs say; the owner asks them.
                registrations: Vec::new(),
                rules: Some(entry.rules.message()),
                owner: entry.owner.to_string(),
            })
            .collect()
    }

    /// Whether the caller may see a flow: one of its ends is its own, or it is an administrator.
    pub(super) fn may_see(&self, caller: &Caller, flow: &Flow) -> bool {
        super::quota::ends(flow).any(|(uid, _)| uid == caller.uid) || self.rank(caller) >= Rank::Administrator
    }

    pub(super) fn flow_list(&self, now: Instant, caller: &Caller, listed: &Listed) -> Answer {
        let all = self.rank(caller) >= Rank::Administrator;
        let seen = |flow: &Flow| all || self.may_see(caller, flow);
        let shown = |flow: &Flow| match listed.told_by.iter().any(|ipcp| ipcp == flow.ipcp()) {
            true => identity_row(flow),
            false => Some(row(flow, now)),
        };
        let mut rows: Vec<FlowRow> = self.flows.iter().filter(|flow| seen(flow)).filter_map(shown).collect();
        if listed.ended {
            rows.extend(self.history.gone(now).filter(|gone| seen(&gone.flow)).map(|gone| gone_row(gone, now)));
        }
        Ok(Some(if all { Reply::Flows(rows) } else { Reply::FlowsOf(caller.uid, rows) }))
    }

    /// The events with a higher number that are kept.
    pub(super) fn flow_events(&self, caller: &Caller, after: u64) -> Answer {
        let only = (self.rank(caller) < Rank::Administrator).then_some(caller.uid);
        let concerns = |record: &&Record| only.is_none_or(|uid| record.concerns(uid));
        let records = self.history.after(after).filter(concerns).cloned().collect();
        let (first, last) = (self.history.first(), self.history.last());
        Ok(Some(Reply::Events(super::Past { records, first, last }, only)))
    }

    /// For counting: local flows, and which flows the caller may see.
    pub(super) fn flow_seen(&self, now: Instant, caller: &Caller) -> Answer {
        let all = self.rank(caller) >= Rank::Administrator;
        let seen = || self.flows.iter().filter(|flow| all || self.may_see(caller, flow));
        let local = |flow: &Flow| match &flow.way {
            Way::Local(local) => Some(super::Local {
                flow: flow.id,
                peer: local.peer,
                state: flow.stage.message(),
                age_ms: millis(now, flow.since),
            }),
            _ => None,
        };
        let only = (!all).then(|| seen().map(|flow| flow.id.0).collect());
        Ok(Some(Reply::Seen(seen().filter_map(local).collect(), only)))
    }

    pub(super) fn flow_show(&self, now: Instant, caller: &Caller, id: FlowId) -> Answer {
        let flow = self.flows.row(id).and_then(|row| self.flows.get(row));
        let mut gone = self.history.gone(now).filter(|gone| gone.is(id));
        let (mut shown, flow) = match (flow, gone.next_back()) {
            (Some(flow), _) => (row(flow, now), flow),
            (None, Some(gone)) => (gone_row(gone, now), &gone.flow),
            (None, None) => return Err(no_flow(id)),
        };
        if !self.may_see(caller, flow) {
            return Err(no_flow(id));
        }
        shown.info.history = flow.past.steps().map(|step| step.shown(now)).collect();
        Ok(Some(Reply::Flows(vec![shown])))
    }

    /// An IPCP has said which flows it holds: ours that it does not know are over, its that we do not know have
    /// outlived our predecessor.
    pub(super) fn reconcile(&mut self, now: Instant, ipcp: &str, answer: Result<IpcpAnswer, Failure>) {
        let Ok(IpcpAnswer::Flows(infos)) = answer else {
            return self.reconcile_later(now, ipcp);
        };
        let since = match self.ipcps.get(ipcp).map(|i| i.state) {
            Some(State::Operational(since)) => since,
            _ => return,
        };
        let known: std::collections::HashSet<u64> = infos.iter().map(|info| info.flow_id).collect();
        if since + RECONCILE_AFTER <= now {
            let lost = |flow: &&Flow| {
                flow.ipcp() == ipcp
                    && flow.stage.kind() == Kind::Allocated
                    && flow.known + RECONCILE_AFTER <= now
                    && !known.contains(&flow.id.0)
            };
            let rows: Vec<FlowId> = self.flows.iter().filter(lost).map(|flow| flow.id).collect();
            for row in rows {
                let gone = self.flows.end(row, Event::Over);
                self.note_ended(gone, v1::EndReason::IpcpStopped, None);
                self.flow_log(row, format!("flow {row} over {ipcp} is over: it was lost with the IPCP"));
            }
        } else {
            self.reconcile_later(now, ipcp);
        }
        for info in infos.into_iter().filter(|info| info.state() == v1::FlowState::Allocated) {
            self.take_over(now, ipcp, info);
        }
    }

    pub(super) fn take_over(&mut self, now: Instant, ipcp: &str, info: v1::FlowInfo) {
        let id = FlowId(info.flow_id);
        let Ok(name) = proto::Name::new(&info.name) else { return };
        if id.0 == 0 || self.flows.row(id).is_some() || self.flows.len() >= self.settings.flows {
            return;
        }
        self.flows.skip(id);
        let process = info.process.unwrap_or_default();
        let prefix = super::quota::Prefix::of(&info.peer_address);
        let way = if info.accepting {
            Way::In(Box::new(In {
                ipcp: ipcp.to_owned(),
                layer: info.layer,
                token: Vec::new(),
                handoff: String::new(),
                peer_address: info.peer_address,
                classic: info.classic,
                proven: true,
                prefix,
            }))
        } else {
            Way::Out(Box::new(Out {
                caller: process.clone(),
                tokens: [proto::Token([0; 16]); 2],
                ipcp: ipcp.to_owned(),
                layer: info.layer,
                peer_address: info.peer_address,
                classic: info.classic,
                // Its record, if there was one, was heard by an earlier irmd.
                host_key: None,
            }))
        };
        self.flows.insert(Flow {
            id,
            name,
            source: info.source_name,
            qos: info.qos.unwrap_or_default(),
            since: now.checked_sub(Duration::from_millis(info.age_ms)).unwrap_or(now),
            known: now,
            deadline: now,
            data: Vec::new(),
            stage: Stage::Allocated { to: info.accepting.then_some(process) },
            way,
            peer: None,
            past: Default::default(),
        });
        self.begun(id, v1::EventKind::Returned);
    }
}

fn millis(now: Instant, since: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
}

/// A flow that is over.
fn gone_row(gone: &Gone, now: Instant) -> FlowRow {
    let mut shown = row(&gone.flow, gone.at);
    let info = &mut shown.info;
    info.set_state(v1::FlowState::Ended);
    info.set_ended(gone.ended);
    info.set_failure(gone.failure);
    info.words = gone.words.as_deref().unwrap_or_default().to_owned();
    info.ended_ms_ago = millis(now, gone.at);
    [info.counters, info.peer_counters] = gone.counters;
    shown
}

/// Who the peer has shown to be, of a flow whose IPCP tells the rest.
fn identity_row(flow: &Flow) -> Option<FlowRow> {
    let peer = flow.peer.as_deref()?;
    let mut info = v1::FlowInfo { flow_id: flow.id.0, ipcp: flow.ipcp().to_owned(), ..v1::FlowInfo::default() };
    show_peer(peer, &mut info);
    Some(FlowRow { info, peer: None })
}

fn show_peer(Peer { shown, grounds }: &Peer, info: &mut v1::FlowInfo) {
    info.peer_identity = shown.host.to_string();
    info.peer_certified = shown.name.as_ref().map(ToString::to_string).unwrap_or_default();
    info.trusted_by = grounds.as_str().to_owned();
}

fn row(flow: &Flow, now: Instant) -> FlowRow {
    let mut info = v1::FlowInfo {
        flow_id: flow.id.0,
        name: flow.name.to_string(),
        source_name: flow.source.clone(),
        ipcp: flow.ipcp().to_owned(),
        qos: Some(flow.qos),
        state: flow.stage.message().into(),
        // An end that was not brought back after a restart has none.
        process: flow.caller().filter(|process| process.pid != 0).cloned(),
        age_ms: millis(now, flow.since),
        encrypted: !flow.ipcp().is_empty() && flow.qos.cube() != v1::Cube::Raw,
        ..v1::FlowInfo::default()
    };
    if let Some(peer) = flow.peer.as_deref() {
        show_peer(peer, &mut info);
    }
    let to = match &flow.stage {
        Stage::Allocated { to } => to.clone(),
        Stage::Offered { to, .. } | Stage::Opening { to, .. } => Some(to.clone()),
        _ => None,
    };
    let mut peer = None;
    match &flow.way {
        Way::Out(out) => {
            let Out { layer, peer_address, classic, .. } = &**out;
            (info.layer, info.peer_address, info.classic) = (layer.clone(), peer_address.clone(), *classic);
        }
        Way::In(arrived) => {
            let In { layer, peer_address, classic, .. } = &**arrived;
            (info.layer, info.peer_address, info.classic) = (layer.clone(), peer_address.clone(), *classic);
            (info.accepting, info.process) = (true, to);
        }
        Way::Local(local) => {
            let Local { peer: end, .. } = &**local;
            peer = *end;
            info.layer = "local".into();
            info.peer_process = to;
            info.sdu_limit = super::LOCAL_SDU_LIMIT;
        }
    }
    FlowRow { info, peer }
}

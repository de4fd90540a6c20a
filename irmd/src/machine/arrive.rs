//! A peer asks for a flow, through an IPCP.

use std::time::Instant;

use proto::v1::{self, EndReason, EventKind, FailureKind};
use proto::{FlowId, Token};

use super::flow::{Flow, In, Stage, Way};
use super::transitions::{Event, Kind};
use super::{Answer, CallId, Irm, Parked, Reply, Timer};
use super::{fail, known_qos, parse_name};

impl Irm {
    pub(super) fn flow_req_arr(&mut self, now: Instant, call: CallId, request: v1::FlowReqArrRequest) -> Answer {
        let arrived = self.arrived(now, call, request);
        arrived.map_err(|failure| self.unless_returning(now, failure))
    }

    fn arrived(&mut self, now: Instant, call: CallId, request: v1::FlowReqArrRequest) -> Answer {
        let name = parse_name(&request.name)?;
        let qos = known_qos(request.qos)?;
        let layer = match self.ipcps.get(&request.ipcp) {
            Some(ipcp) => ipcp.layer().to_owned(),
            None => {
                let text = format!("no IPCP {} is attached to this irmd; attach first", request.ipcp);
                return Err(fail(FailureKind::NotFound, text));
            }
        };
        if Token::from_bytes(&request.token).is_none() {
            return Err(fail(FailureKind::Invalid, "a token has 16 bytes; update the IPCP"));
        }
        if !self.names.get(name.as_str()).is_some_and(|e| e.layers.contains(&layer)) {
            let text = format!("{name} is not registered in layer {layer} on this host; see irm name register");
            return Err(fail(FailureKind::UnknownName, text));
        }
        self.check_stranger(now, &name, &request)?;
        if qos.cube() == v1::Cube::Raw {
            self.check_plaintext(now, &name, &request.peer_address)?;
        }
        let prefix = self.check_prefix(&request.peer_address)?;
        self.check_room()?;
        self.check_backlog(&name)?;
        let (row, deadline) = (self.flows.mint(), now + self.wait(request.deadline_ms));
        self.flow_log(row, format!("flow {row} to {name} is asked for by {}", request.peer_address));
        let arrived = In {
            ipcp: request.ipcp,
            layer,
            token: request.token,
            handoff: request.handoff,
            peer_address: request.peer_address,
            classic: request.classic,
            proven: request.proven,
            prefix,
        };
        self.flows.insert(Flow {
            id: row,
            name: name.clone(),
            source: request.source_name,
            qos,
            since: now,
            known: now,
            deadline,
            data: request.data,
            stage: Stage::Waiting { call },
            way: Way::In(Box::new(arrived)),
            peer: None,
            past: Default::default(),
        });
        self.begun(row, EventKind::Arrived);
        self.calls.insert(call, Parked::Flow(row));
        self.timers.set(Timer::Flow(row), deadline);
        self.enqueue(now, &name, row);
        Ok(None)
    }

    pub(super) fn flow_ended(&mut self, request: &v1::FlowEndedRequest) -> Answer {
        let row = FlowId(request.flow_id);
        let holds = |flow: &Flow| flow.ipcp() == request.ipcp && flow.stage.kind() == Kind::Allocated;
        if self.flows.get(row).is_some_and(holds) {
            let gone = self.flows.end(row, Event::Over);
            self.note_ended(gone, request.reason(), request.counters);
            self.flow_log(row, format!("flow {row} over {} is over: {}", request.ipcp, words(request.reason())));
        }
        Ok(Some(Reply::Done))
    }
}

/// A reason for the log.
pub(super) fn words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Unspecified => "no reason given",
        EndReason::Deallocated => "deallocated",
        EndReason::ProgramDied => "its program ended",
        EndReason::PeerDeallocated => "the peer deallocated it",
        EndReason::PeerDied => "the peer's program ended",
        EndReason::PeerTimedOut => "the peer is silent",
        EndReason::PeerUnknown => "the peer does not know it",
        EndReason::Admin => "an administrator ended it",
        EndReason::IpcpStopped => "its IPCP was stopped",
        EndReason::NeverTaken => "its program did not take it in time",
        EndReason::AddressGone => "this host has another address than the one that it was on",
    }
}

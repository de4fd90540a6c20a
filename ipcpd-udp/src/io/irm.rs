//! What this process says to irmd: here I am, a flow is asked for, a flow is over.
#![expect(clippy::disallowed_methods, reason = "io owns the timers")]

use std::path::PathBuf;
use std::time::Duration;

use handoff::Caller;
use proto::calls::FlowReqArrs;
use proto::v1::irm_for_ipcp_client::IrmForIpcpClient;
use proto::v1::{self, Failure, FailureKind};
use proto::{FlowId, MAX_MESSAGE, PROTOCOL_VERSION, RunDir};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

use super::api::owner_of;
use crate::config::Bootstrap;
use crate::machine::{Accept, Arrival};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// Ends of flows that come within this time are told together; programs do not wait for it.
const GATHER: Duration = Duration::from_millis(10);
/// So many at most in one message.
const MOST_ENDS: usize = 4_096;
/// Over what the machine waits for, so that its deadline comes first.
const SLACK: Duration = Duration::from_secs(1);
/// A word about ended flows that irmd does not take is repeated this often.
const TELLINGS: u32 = 5;

/// How irmd is reached, and what it is told of this IPCP.
#[derive(Clone)]
pub(super) struct Irm {
    client: IrmForIpcpClient<Channel>,
    arrivals: Caller<FlowReqArrs>,
    name: String,
    socket: PathBuf,
    pub(super) handoff: PathBuf,
}

impl Irm {
    /// Dials when first used, and again whenever irmd is back.
    pub(super) fn new(run_dir: &RunDir, name: &str) -> anyhow::Result<Self> {
        let client = IrmForIpcpClient::new(handoff::channel(run_dir.irmd())).max_decoding_message_size(MAX_MESSAGE);
        let name = name.to_owned();
        Ok(Self {
            client,
            arrivals: Caller::default(),
            socket: run_dir.ipcp(&name),
            handoff: run_dir.ipcp_handoff(&name),
            name,
        })
    }

    /// Holds `Attach` open for ever, again and again.
    pub(super) async fn attach(self, bootstrapped: watch::Receiver<Option<Bootstrap>>) {
        let mut pause = FIRST_RETRY;
        loop {
            let request = self.attach_request(bootstrapped.borrow().as_ref());
            match self.client.clone().attach(request).await {
                Ok(reply) => {
                    let mut stream = reply.into_inner();
                    match stream.message().await {
                        Ok(Some(reply)) if reply.version == PROTOCOL_VERSION => {
                            tracing::info!(ipcp = self.name, "attached to irmd");
                            pause = FIRST_RETRY;
                            // Nothing more comes: the stream's end is what it is held for.
                            while let Ok(Some(_)) = stream.message().await {}
                            tracing::warn!(ipcp = self.name, "irmd is gone; flows go on, new ones wait for its return");
                        }
                        Ok(Some(reply)) => tracing::error!(
                            ipcp = self.name,
                            "irmd speaks version {}, this IPCP version {PROTOCOL_VERSION}; update the older of the two",
                            reply.version
                        ),
                        Ok(None) => {}
                        Err(status) => refused(&self.name, &status),
                    }
                }
                Err(status) => refused(&self.name, &status),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    fn attach_request(&self, bootstrap: Option<&Bootstrap>) -> v1::AttachRequest {
        v1::AttachRequest {
            version: PROTOCOL_VERSION,
            name: self.name.clone(),
            r#type: "udp".to_owned(),
            socket: self.socket.display().to_string(),
            handoff: self.handoff.display().to_string(),
            pid: std::process::id(),
            layer: bootstrap.map(|bootstrap| bootstrap.layer.clone()).unwrap_or_default(),
            config: bootstrap.map(|bootstrap| bootstrap.said.clone()),
            address: bootstrap.map(|bootstrap| bootstrap.listen.to_string()).unwrap_or_default(),
        }
    }

    /// Asks for a program that takes the flow.
    pub(super) async fn flow_req_arr(self, layer: String, arrival: Arrival) -> Result<Accept, Failure> {
        let request = v1::FlowReqArrRequest {
            ipcp: self.name,
            name: arrival.name.to_string(),
            source_name: arrival.source,
            qos: Some(arrival.qos.into()),
            token: arrival.token.0.to_vec(),
            handoff: self.handoff.display().to_string(),
            deadline_ms: u32::try_from(arrival.within.as_millis()).unwrap_or(u32::MAX),
            data: arrival.data,
            peer_address: arrival.peer.to_string(),
            classic: arrival.classic,
            proven: arrival.proven,
            layer,
        };
        let Self { mut client, arrivals, .. } = self;
        let open = |questions| async move { client.flow_req_arr(questions).await };
        let reply = match timeout(arrival.within + SLACK, arrivals.call(open, request)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(status)) => return Err(Failure::from_status(&status)),
            Err(_) => return Err(Failure::new(FailureKind::NobodyAccepts, "irmd did not answer in time")),
        };
        match reply.process {
            Some(process) if reply.flow_id != 0 => {
                Ok(Accept { flow: FlowId(reply.flow_id), owner: owner_of(process), data: reply.data })
            }
            _ => Err(Failure::new(FailureKind::Internal, "irmd accepted a flow without a flow id or a process")),
        }
    }

    /// Tells of ended flows, one after the other. An irmd that is back after a while hears of them late, one that was
    /// restarted never knew them.
    pub(super) async fn tell_ended(mut self, mut ended: mpsc::Receiver<(FlowId, v1::EndReason)>) {
        let mut together = Vec::new();
        while ended.recv_many(&mut together, MOST_ENDS).await > 0 {
            sleep(GATHER).await;
            while together.len() < MOST_ENDS
                && let Ok(end) = ended.try_recv()
            {
                together.push(end);
            }
            let flow = |(flow, reason): (FlowId, v1::EndReason)| v1::FlowEndedRequest {
                ipcp: self.name.clone(),
                flow_id: flow.0,
                reason: reason.into(),
            };
            let request = v1::FlowsEndedRequest { flows: together.drain(..).map(flow).collect() };
            let mut pause = FIRST_RETRY;
            for _ in 0..TELLINGS {
                match self.client.flows_ended(request.clone()).await {
                    Err(status) if status.code() == Code::Unavailable => {
                        sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_RETRY);
                    }
                    Err(status) => {
                        tracing::debug!(status = status.message(), "irmd does not know of a flow that ended");
                        break;
                    }
                    Ok(_) => break,
                }
            }
        }
    }
}

fn refused(name: &str, status: &tonic::Status) {
    if status.code() == Code::Unavailable {
        tracing::debug!(ipcp = name, status = status.message(), "irmd is not there");
    } else {
        tracing::warn!(ipcp = name, "irmd did not take this IPCP: {}", Failure::from_status(status));
    }
}

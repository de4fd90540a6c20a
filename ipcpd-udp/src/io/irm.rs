//! What this process says to irmd: here I am, a flow is asked for, a flow is over.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and owns the timers")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use handoff::Caller;
use proto::calls::FlowReqArrs;
use proto::v1::irm_for_ipcp_client::IrmForIpcpClient;
use proto::v1::{self, Failure, FailureKind};
use proto::{FlowId, MAX_MESSAGE, RunDir, protocol_version};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

use super::api::owner_of;
use super::command::Command;
use crate::config::Bootstrap;
use crate::machine::{Accept, Arrival};

/// irmd is looked for after its end so soon, and then less often: it is to have its flows back within a second.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LONGEST_RETRY: Duration = Duration::from_millis(250);
/// An irmd that does not take this IPCP (of another version, say) is asked again after this.
const REFUSED_RETRY: Duration = Duration::from_secs(2);
/// A word about flows that irmd did not take is repeated after this, and then less often.
const TELL_RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// A peer's request waits so long for an irmd that is being restarted.
const RETURNS_WITHIN: Duration = Duration::from_secs(2);
/// Ends of flows that come within this time are told together; programs do not wait for it.
const GATHER: Duration = Duration::from_millis(10);
/// So many at most in one message, which has room for a megabyte: a flow brought back takes 700 bytes at most.
const MOST_NEWS: usize = 1_024;
/// Over what the machine waits for, so that its deadline comes first.
const SLACK: Duration = Duration::from_secs(1);
/// A word about flows that irmd does not take is repeated this often.
const TELLINGS: u32 = 5;

/// What became of a flow, for irmd's list.
pub(super) enum News {
    /// It is over; with what it carried, where a program had it.
    Ended(FlowId, v1::EndReason, Option<v1::Counters>),
    /// Its program brought it back after this process was restarted.
    Adopted(Box<v1::FlowInfo>),
}

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
    pub(super) async fn attach(
        self,
        bootstrapped: watch::Receiver<Option<Bootstrap>>,
        commands: mpsc::WeakSender<Command>,
    ) {
        let mut pause = FIRST_RETRY;
        let mut refused = String::new();
        loop {
            let request = self.attach_request(bootstrapped.borrow().as_ref());
            match self.attach_once(request, &commands).await {
                Ok(()) => (pause, refused) = (FIRST_RETRY, String::new()),
                Err(None) => {}
                Err(Some(why)) => {
                    // Said once, not at each try.
                    if why != refused {
                        tracing::warn!(ipcp = self.name, "irmd did not take this IPCP: {why}");
                        refused = why;
                    }
                    sleep(REFUSED_RETRY).await;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    /// Attaches, and waits for irmd's end. `Err`: it was not to be, because irmd is not there (`None`) or said no.
    async fn attach_once(
        &self,
        request: v1::AttachRequest,
        commands: &mpsc::WeakSender<Command>,
    ) -> Result<(), Option<String>> {
        let why = |status: tonic::Status| {
            let away = status.code() == Code::Unavailable && status.details().is_empty();
            (!away).then(|| Failure::from_status(&status).to_string())
        };
        let asked = Instant::now();
        let mut stream = self.client.clone().attach(request).await.map_err(why)?.into_inner();
        match stream.message().await.map_err(why)? {
            Some(reply) if reply.version == protocol_version() => {}
            Some(reply) => {
                return Err(Some(format!(
                    "irmd speaks version {}, this IPCP version {}; update the older of the two",
                    reply.version,
                    protocol_version()
                )));
            }
            None => return Err(None),
        }
        tracing::info!(ipcp = self.name, "attached to irmd");
        if let Some(commands) = commands.upgrade() {
            let _ = commands.send(Command::Attached(asked)).await;
        }
        // Nothing more comes: the stream's end is what it is held for.
        while let Ok(Some(_)) = stream.message().await {}
        tracing::warn!(ipcp = self.name, "irmd is gone; flows go on, new ones wait for its return");
        Ok(())
    }

    fn attach_request(&self, bootstrap: Option<&Bootstrap>) -> v1::AttachRequest {
        v1::AttachRequest {
            version: protocol_version(),
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

    /// Asks for a program that takes the flow; again where irmd is being restarted. Safe to ask twice: who takes the
    /// flow is told its token, which works once.
    pub(super) async fn flow_req_arr(self, layer: String, arrival: Arrival) -> Result<Accept, Failure> {
        let began = Instant::now();
        let request = v1::FlowReqArrRequest {
            ipcp: self.name.clone(),
            name: arrival.name.to_string(),
            source_name: arrival.source,
            qos: Some(arrival.qos.into()),
            token: arrival.token.0.to_vec(),
            handoff: self.handoff.display().to_string(),
            deadline_ms: 0,
            data: arrival.data,
            peer_address: arrival.peer.to_string(),
            classic: arrival.classic,
            proven: arrival.proven,
            layer,
        };
        let mut pause = FIRST_RETRY;
        let reply = loop {
            let left = arrival.within.saturating_sub(began.elapsed());
            let deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
            let request = v1::FlowReqArrRequest { deadline_ms, ..request.clone() };
            let mut client = self.client.clone();
            let open = |questions| async move { client.flow_req_arr(questions).await };
            match timeout(left + SLACK, self.arrivals.call(open, request)).await {
                Ok(Ok(reply)) => break reply,
                Ok(Err(status))
                    if comes_back(&status) && began.elapsed() + pause < RETURNS_WITHIN.min(arrival.within) => {}
                Ok(Err(status)) => return Err(Failure::from_status(&status)),
                Err(_) => return Err(Failure::new(FailureKind::NobodyAccepts, "irmd did not answer in time")),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        };
        match reply.process {
            Some(process) if reply.flow_id != 0 => {
                Ok(Accept { flow: FlowId(reply.flow_id), owner: owner_of(process), data: reply.data })
            }
            _ => Err(Failure::new(FailureKind::Internal, "irmd accepted a flow without a flow id or a process")),
        }
    }

    /// Tells of flows that ended or were brought back, in order. An irmd that is back after a while hears of them late;
    /// one that was restarted asks for all there are.
    pub(super) async fn tell(mut self, mut news: mpsc::Receiver<News>) {
        let mut together = Vec::new();
        while news.recv_many(&mut together, MOST_NEWS).await > 0 {
            sleep(GATHER).await;
            while together.len() < MOST_NEWS
                && let Ok(one) = news.try_recv()
            {
                together.push(one);
            }
            let mut request = v1::FlowsEndedRequest::default();
            for one in together.drain(..) {
                match one {
                    News::Ended(flow, reason, counters) => request.flows.push(v1::FlowEndedRequest {
                        ipcp: self.name.clone(),
                        flow_id: flow.0,
                        reason: reason.into(),
                        counters,
                    }),
                    News::Adopted(info) => request.adopted.push(*info),
                }
            }
            let mut pause = TELL_RETRY.0;
            for _ in 0..TELLINGS {
                match self.client.flows_ended(request.clone()).await {
                    Err(status) if status.code() == Code::Unavailable => {
                        sleep(pause).await;
                        pause = (pause * 2).min(TELL_RETRY.1);
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

/// irmd is not there at this moment, or has come back a moment ago and does not know its names yet.
fn comes_back(status: &tonic::Status) -> bool {
    let failure = Failure::from_status(status);
    let away = status.details().is_empty() && failure.kind() == FailureKind::IpcpDown;
    away || failure.kind() == FailureKind::Recovering
}

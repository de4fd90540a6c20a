//! What IPCPs say, over gRPC.

use std::pin::Pin;
use std::task::{Context, Poll};

use handoff::Answers;
use proto::calls::FlowReqArrs;
use proto::protocol_version;
use proto::v1;
use proto::v1::irm_for_ipcp_server::IrmForIpcp;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::api_irm::{caller, nonsense};
use super::calls::{Asker, Open};
use crate::machine::{Command, Reply};

/// The service.
pub(super) struct Ipcps {
    pub(super) asker: Asker,
}

/// An attachment: says once that it stands, then stays open. Dropping it tells the machine.
#[derive(Debug)]
pub(super) struct Attachment {
    stands: Option<v1::AttachReply>,
    _open: Open,
}

impl Stream for Attachment {
    type Item = Result<v1::AttachReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Never woken again on purpose: the stream ends with the IPCP's side.
        self.stands.take().map_or(Poll::Pending, |reply| Poll::Ready(Some(Ok(reply))))
    }
}

#[tonic::async_trait]
impl IrmForIpcp for Ipcps {
    type AttachStream = Attachment;

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<Attachment>, Status> {
        let caller = caller(&request)?;
        let (reply, open) = self.asker.ask_open(caller, Command::Attach(Box::new(request.into_inner()))).await?;
        match reply {
            Reply::Done => {
                let stands = Some(v1::AttachReply { version: protocol_version() });
                Ok(Response::new(Attachment { stands, _open: open }))
            }
            other => Err(nonsense(&other).into()),
        }
    }

    type FlowReqArrStream = Answers<FlowReqArrs>;

    async fn flow_req_arr(
        &self,
        calls: Request<Streaming<v1::FlowReqArrCall>>,
    ) -> Result<Response<Self::FlowReqArrStream>, Status> {
        let accepted = |reply| match reply {
            Reply::Accepted(reply) => Ok(reply),
            other => Err(nonsense(&other)),
        };
        self.asker.answers::<FlowReqArrs>(caller(&calls)?, calls, |request| Ok(Command::FlowReqArr(request)), accepted)
    }

    async fn flows_ended(&self, request: Request<v1::FlowsEndedRequest>) -> Result<Response<v1::Empty>, Status> {
        let caller = caller(&request)?;
        let mut failed = Ok(());
        let v1::FlowsEndedRequest { flows, adopted } = request.into_inner();
        if !adopted.is_empty() {
            self.asker.ask(caller.clone(), Command::FlowsAdopted(adopted)).await?;
        }
        for flow in flows {
            // One that is unknown keeps none of the others from being heard.
            failed = self.asker.ask(caller.clone(), Command::FlowEnded(flow)).await.map(|_| ()).and(failed);
        }
        failed.map(|()| Response::new(v1::Empty {})).map_err(Status::from)
    }
}

//! gRPC with irmd: one channel, kept, made again when irmd was restarted.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use handoff::Caller;
use proto::MAX_MESSAGE;
use proto::calls::{FlowAccepts, FlowAllocs, FlowAnswers};
use proto::v1::irm_client::IrmClient;
use proto::v1::{Empty, Failure, FlowAcceptRequest, FlowAllocRequest, FlowAnswerRequest, FlowHandle};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::error::{CallError, Unreachable};

/// A client of irmd's, for one thread.
pub(super) struct Irm {
    path: PathBuf,
    link: RefCell<Option<Link>>,
    reached: Cell<bool>,
}

/// A channel to irmd, with the streams that calls about flows go over.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: IrmClient<Channel>,
    allocs: Caller<FlowAllocs>,
    accepts: Caller<FlowAccepts>,
    answers: Caller<FlowAnswers>,
}

impl Link {
    async fn flow_alloc(self, request: FlowAllocRequest, asked: &AtomicBool) -> Result<FlowHandle, Status> {
        let mut client = self.client;
        let open = |questions| async move { client.flow_alloc(questions).await };
        self.allocs.call_noting(open, request, asked).await
    }

    pub(super) async fn flow_accept(self, request: FlowAcceptRequest) -> Result<FlowHandle, Status> {
        let mut client = self.client;
        self.accepts.call(|questions| async move { client.flow_accept(questions).await }, request).await
    }

    pub(super) async fn flow_answer(self, request: FlowAnswerRequest) -> Result<Empty, Status> {
        let mut client = self.client;
        self.answers.call(|questions| async move { client.flow_answer(questions).await }, request).await
    }
}

impl Irm {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, link: RefCell::new(None), reached: Cell::new(false) }
    }

    /// Connects, if that has not been done.
    pub(super) async fn reach(&self) -> Result<(), CallError> {
        self.link().await.map(|_| ())
    }

    async fn link(&self) -> Result<Link, CallError> {
        let kept = self.link.borrow().clone();
        if let Some(link) = kept {
            return Ok(link);
        }
        let client =
            connect(&self.path).await.map_err(|cause| CallError::Irmd(Unreachable::irmd(&self.path, cause)))?;
        let link = Link { client, allocs: Caller::default(), accepts: Caller::default(), answers: Caller::default() };
        self.link.replace(Some(link.clone()));
        self.reached.set(true);
        Ok(link)
    }

    /// irmd was there once.
    pub(super) fn was_reached(&self) -> bool {
        self.reached.get()
    }

    /// It has not answered for so long.
    pub(super) fn silent(&self, waited: Duration) -> CallError {
        CallError::Irmd(Unreachable::irmd_silent(&self.path, waited))
    }

    /// irmd has ended: the next call connects anew.
    pub(super) fn forget(&self) {
        self.link.replace(None);
    }

    /// Asks for a flow, once: an irmd that ends meanwhile may have granted it.
    pub(super) async fn flow_alloc(&self, request: FlowAllocRequest) -> Result<FlowHandle, CallError> {
        let name = request.name.clone();
        let asked = AtomicBool::new(false);
        let status = match self.link().await?.flow_alloc(request, &asked).await {
            Ok(handle) => return Ok(handle),
            Err(status) => status,
        };
        if !is_transport(&status) {
            return Err(CallError::Failed(Failure::from_status(&status)));
        }
        self.forget();
        if !asked.load(Ordering::Relaxed) {
            return Err(CallError::Irmd(Unreachable::irmd(&self.path, status.message())));
        }
        Err(CallError::Ended(Unreachable::irmd_ended(&self.path, &name)))
    }

    /// Calls irmd; once more over a new channel when the old one turns out to be broken. `within` bounds both.
    pub(super) async fn call<T, F>(&self, within: Option<Duration>, call: impl Fn(Link) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let calls = self.call_twice(call);
        match within {
            None => calls.await,
            Some(within) => tokio::time::timeout(within, calls).await.unwrap_or_else(|_| Err(self.silent(within))),
        }
    }

    async fn call_twice<T, F>(&self, call: impl Fn(Link) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut broken = None;
        for _ in 0..2 {
            match call(self.link().await?).await {
                Ok(reply) => return Ok(reply),
                Err(status) if is_transport(&status) => {
                    self.link.replace(None);
                    broken = Some(status);
                }
                Err(status) => return Err(CallError::Failed(Failure::from_status(&status))),
            }
        }
        let cause = broken.map_or_else(String::new, |status| status.message().to_owned());
        Err(CallError::Irmd(Unreachable::irmd(&self.path, cause)))
    }
}

/// The channel broke, as opposed to irmd answering.
fn is_transport(status: &Status) -> bool {
    status.details().is_empty() && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}

async fn connect(path: &Path) -> Result<IrmClient<Channel>, String> {
    let channel = handoff::connected_channel(path).await.map_err(|error| root_cause(&error))?;
    Ok(IrmClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
}

/// "transport error" says nothing; its innermost cause does.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

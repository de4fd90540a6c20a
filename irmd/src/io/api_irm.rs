//! What programs ask, over gRPC.
#![expect(clippy::disallowed_methods, reason = "io draws the tokens and reads the clock")]

use std::time::SystemTime;

use ::identity::{CertificateDer, check, unix};
use handoff::Answers;
use proto::calls::{FlowAccepts, FlowAllocs, FlowAnswers};
use proto::v1::irm_server::Irm;
use proto::v1::{self, Failure, FailureKind};
use proto::{FlowId, Name, Token};
use tonic::{Request, Response, Status, Streaming};

use super::api_admin::Tools;
use super::calls::Asker;
use super::identity::Identity;
use super::names::{self, Following};
use crate::machine::{Caller, Command, Judging, Reply};

/// The service.
pub(super) struct Programs {
    pub(super) asker: Asker,
    pub(super) identity: Identity,
    pub(super) names: Following,
}

impl Programs {
    /// Beside what tools ask.
    pub(super) fn new(tools: &Tools) -> Self {
        let Tools { asker, links, events, identity, .. } = tools;
        let names = Following::new(asker.clone(), links.clone(), events.served());
        Self { asker: asker.clone(), identity: identity.clone(), names }
    }
}

/// Who is at the other end of the socket a request came by.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| {
        let text = "the kernel does not say who calls; call from a process of this host";
        Failure::new(FailureKind::NotPermitted, text).into()
    })
}

/// The machine replied with something else than was asked for.
pub(super) fn nonsense(reply: &Reply) -> Failure {
    tracing::error!("irmd gave a reply of another kind: {reply:?}");
    Failure::new(FailureKind::Internal, "irmd gave a reply of another kind; please report it")
}

fn done(reply: &Reply) -> Result<v1::Empty, Failure> {
    match reply {
        Reply::Done => Ok(v1::Empty {}),
        other => Err(nonsense(other)),
    }
}

pub(super) fn empty(reply: &Reply) -> Result<Response<v1::Empty>, Status> {
    done(reply).map(Response::new).map_err(Status::from)
}

fn handle(reply: Reply) -> Result<v1::FlowHandle, Failure> {
    match reply {
        Reply::Handle(handle) => Ok(handle),
        other => Err(nonsense(&other)),
    }
}

fn tokens() -> Result<[Token; 2], Failure> {
    let mut tokens = [Token([0; 16]); 2];
    for token in &mut tokens {
        getrandom::fill(&mut token.0).map_err(|error| {
            let text = format!("the system gives no random bytes: {error}; try again");
            Failure::new(FailureKind::Internal, text)
        })?;
    }
    Ok(tokens)
}

#[tonic::async_trait]
impl Irm for Programs {
    type FlowAllocStream = Answers<FlowAllocs>;

    async fn flow_alloc(
        &self,
        calls: Request<Streaming<v1::FlowAllocCall>>,
    ) -> Result<Response<Self::FlowAllocStream>, Status> {
        let command = |request| Ok(Command::FlowAlloc(request, tokens()?));
        self.asker.answers::<FlowAllocs>(caller(&calls)?, calls, command, handle)
    }

    async fn serve(&self, request: Request<v1::ServeRequest>) -> Result<Response<v1::ServeReply>, Status> {
        let caller = caller(&request)?;
        match self.asker.ask(caller, Command::Serve(request.into_inner())).await? {
            Reply::Served(layers) => Ok(Response::new(v1::ServeReply { layers })),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn unserve(&self, request: Request<v1::UnserveRequest>) -> Result<Response<v1::Empty>, Status> {
        let caller = caller(&request)?;
        empty(&self.asker.ask(caller, Command::Unserve(request.into_inner())).await?)
    }

    type FlowAcceptStream = Answers<FlowAccepts>;

    async fn flow_accept(
        &self,
        calls: Request<Streaming<v1::FlowAcceptCall>>,
    ) -> Result<Response<Self::FlowAcceptStream>, Status> {
        self.asker.answers::<FlowAccepts>(caller(&calls)?, calls, |request| Ok(Command::FlowAccept(request)), handle)
    }

    type FlowAnswerStream = Answers<FlowAnswers>;

    async fn flow_answer(
        &self,
        calls: Request<Streaming<v1::FlowAnswerCall>>,
    ) -> Result<Response<Self::FlowAnswerStream>, Status> {
        let command = |request| Ok(Command::FlowAnswer(request));
        self.asker.answers::<FlowAnswers>(caller(&calls)?, calls, command, |reply| done(&reply))
    }

    async fn certify(&self, request: Request<v1::CertifyRequest>) -> Result<Response<v1::CertifyReply>, Status> {
        let caller = caller(&request)?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.public_key);
        // The machine has refused what is neither empty nor a name.
        let name = Name::new(&request.name).ok();
        done(&self.asker.ask(caller, Command::Certify(request)).await?)?;
        Ok(Response::new(self.identity.certify(&key, name.as_ref(), SystemTime::now())?))
    }

    type NamesStream = names::Stream;

    async fn names(&self, request: Request<v1::NamesRequest>) -> Result<Response<names::Stream>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.names.follow(caller, request.into_inner()).await?))
    }

    async fn judge(&self, request: Request<v1::JudgeRequest>) -> Result<Response<v1::JudgeReply>, Status> {
        let caller = caller(&request)?;
        let v1::JudgeRequest { flow_id, chain } = request.into_inner();
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let now = SystemTime::now();
        // Signatures are checked here, the rest is decided from what they say.
        let shown = check(&chain, now);
        let judging = Judging { flow: FlowId(flow_id), chain, shown, wall: unix(now) };
        match self.asker.ask(caller, Command::Judge(Box::new(judging))).await? {
            Reply::Judged(reply) => Ok(Response::new(reply)),
            other => Err(nonsense(&other).into()),
        }
    }
}

//! Names that begin alike, followed as long as somebody wants them.

use std::rc::Rc;
use std::time::Duration;

use proto::v1::{Failure, FailureKind, NamesReply, NamesRequest};
use tokio::sync::watch;
use tonic::Streaming;

use super::keeper::{Context, LOOK_AGAIN, Reply, SHORT_WITHIN};
use super::patience::comes_back_some_day;
use crate::error::CallError;

/// An irmd that says no is asked again after this: what it said no to may be over.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

impl Context {
    /// Tells what the names are; they are followed until nobody holds what is given.
    pub(super) async fn names(self: Rc<Self>, request: NamesRequest, reply: Reply<watch::Receiver<NamesReply>>) {
        let first = async {
            let mut stream = self.ask_names(&request).await?;
            match tokio::time::timeout(SHORT_WITHIN, stream.message()).await {
                Ok(Ok(Some(names))) => Ok((names, stream)),
                Ok(Err(status)) => Err(CallError::Failed(Failure::from_status(&status))),
                Ok(Ok(None)) | Err(_) => {
                    let text = "irmd ended the list of names at once; ask again";
                    Err(CallError::Failed(Failure::new(FailureKind::Internal, text)))
                }
            }
        };
        match first.await {
            Ok((names, stream)) => {
                let (tell, told) = watch::channel(names);
                self.asks.borrow_mut().spawn_local(self.clone().follow(request, stream, tell));
                let _ = reply.send(Ok(told));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    async fn ask_names(&self, request: &NamesRequest) -> Result<Streaming<NamesReply>, CallError> {
        let call = self.irm.call(Some(SHORT_WITHIN), |mut irm| {
            let request = request.clone();
            async move { irm.client.names(request).await }
        });
        call.await.map(tonic::Response::into_inner)
    }

    /// What was told last stands while irmd is restarted.
    async fn follow(
        self: Rc<Self>,
        request: NamesRequest,
        mut stream: Streaming<NamesReply>,
        tell: watch::Sender<NamesReply>,
    ) {
        let mut again = self.irmd_again.subscribe();
        loop {
            let next = tokio::select! {
                () = tell.closed() => return,
                next = stream.message() => next,
            };
            if let Ok(Some(names)) = next {
                let _ = tell.send(names);
                continue;
            }
            loop {
                let pause = match self.ask_names(&request).await {
                    Ok(fresh) => {
                        stream = fresh;
                        break;
                    }
                    Err(error) if comes_back_some_day(&error) => LOOK_AGAIN,
                    Err(_) => REFUSED_PAUSE,
                };
                tokio::select! {
                    () = tell.closed() => return,
                    _ = tokio::time::timeout(pause, again.changed()) => {}
                }
            }
        }
    }
}

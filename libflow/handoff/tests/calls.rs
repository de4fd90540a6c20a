//! Many calls over one stream, with a real gRPC server between.
#![expect(clippy::disallowed_methods, reason = "a test starts its server's task")]

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use handoff::{Answers, Caller};
use proto::calls::FlowReqArrs;
use proto::v1::irm_for_ipcp_client::IrmForIpcpClient;
use proto::v1::irm_for_ipcp_server::{IrmForIpcp, IrmForIpcpServer};
use proto::v1::{self, Failure, FailureKind, FlowReqArrReply, FlowReqArrRequest};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// Most questions under way at a time.
const MOST: usize = 4;

type Parked = Arc<Mutex<Vec<(String, oneshot::Sender<u64>)>>>;

/// Parks every question until the test answers it.
#[derive(Clone, Default)]
struct Service {
    parked: Parked,
}

#[tonic::async_trait]
impl IrmForIpcp for Service {
    type AttachStream = Pin<Box<tokio_stream::Pending<Result<v1::AttachReply, Status>>>>;
    type FlowReqArrStream = Answers<FlowReqArrs>;

    async fn attach(&self, _: Request<v1::AttachRequest>) -> Result<Response<Self::AttachStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn flow_req_arr(
        &self,
        calls: Request<Streaming<v1::FlowReqArrCall>>,
    ) -> Result<Response<Self::FlowReqArrStream>, Status> {
        let parked = self.parked.clone();
        let work = move |request: FlowReqArrRequest| {
            let (answer, answered) = oneshot::channel();
            parked.lock().unwrap().push((request.name, answer));
            async move {
                let flow_id = answered.await.map_err(|_| Failure::new(FailureKind::Refused, "no"))?;
                Ok(FlowReqArrReply { flow_id, ..FlowReqArrReply::default() })
            }
        };
        Ok(Response::new(handoff::answers::<FlowReqArrs, _, _>(calls.into_inner(), MOST, work)))
    }

    async fn flows_ended(&self, _: Request<v1::FlowsEndedRequest>) -> Result<Response<v1::Empty>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

struct Stage {
    _dir: tempfile::TempDir,
    path: PathBuf,
    parked: Parked,
    server: Option<Daemon>,
    client: IrmForIpcpClient<Channel>,
    caller: Caller<FlowReqArrs>,
}

/// A server with a thread and runtime of its own: dropped, its connections go with it.
struct Daemon(Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>);

impl Drop for Daemon {
    fn drop(&mut self) {
        let (stop, thread) = self.0.take().unwrap();
        drop(stop);
        thread.join().unwrap();
    }
}

fn serve(path: &Path, parked: &Parked) -> Daemon {
    let _ = std::fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let service = IrmForIpcpServer::new(Service { parked: parked.clone() });
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
            let serving = Server::builder().add_service(service).serve_with_incoming(listener);
            tokio::select! {
                served = serving => served.unwrap(),
                _ = stopped => {}
            }
        });
    };
    Daemon(Some((stop, std::thread::Builder::new().spawn(run).unwrap())))
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let parked = Parked::default();
        let server = Some(serve(&path, &parked));
        let client = IrmForIpcpClient::new(handoff::channel(&path));
        Self { _dir: dir, path, parked, server, client, caller: Caller::default() }
    }

    fn ask(&self, name: &str) -> tokio::task::JoinHandle<Result<FlowReqArrReply, Status>> {
        let (mut client, caller) = (self.client.clone(), self.caller.clone());
        let request = FlowReqArrRequest { name: name.to_owned(), ..FlowReqArrRequest::default() };
        tokio::spawn(async move {
            caller.call(|questions| async move { client.flow_req_arr(questions).await }, request).await
        })
    }

    async fn until(&self, what: &str, so: impl Fn(&[(String, oneshot::Sender<u64>)]) -> bool) {
        let wait = async {
            while !so(&self.parked.lock().unwrap()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    /// Answers a parked question, or fails it.
    fn answer(&self, name: &str, flow: Option<u64>) {
        let mut parked = self.parked.lock().unwrap();
        let at = parked.iter().position(|(parked, _)| parked == name).unwrap();
        let (_, sender) = parked.remove(at);
        if let Some(flow) = flow {
            sender.send(flow).unwrap();
        }
    }
}

#[tokio::test]
async fn answers_come_in_any_order_and_find_their_askers() {
    let stage = Stage::new();
    let (first, second, third) = (stage.ask("first"), stage.ask("second"), stage.ask("third"));
    stage.until("all are asked", |parked| parked.len() == 3).await;
    stage.answer("third", Some(3));
    assert_eq!(third.await.unwrap().unwrap().flow_id, 3);
    stage.answer("first", None);
    let failure = Failure::from_status(&first.await.unwrap().unwrap_err());
    assert_eq!((failure.kind(), failure.message.as_str()), (FailureKind::Refused, "no"));
    stage.answer("second", Some(2));
    assert_eq!(second.await.unwrap().unwrap().flow_id, 2);
}

#[tokio::test]
async fn a_question_given_up_is_dropped_at_the_other_side() {
    let stage = Stage::new();
    let (kept, given_up) = (stage.ask("kept"), stage.ask("given up"));
    stage.until("both are asked", |parked| parked.len() == 2).await;
    given_up.abort();
    stage.until("it is dropped", |parked| parked.iter().any(|(name, s)| name == "given up" && s.is_closed())).await;
    stage.answer("kept", Some(1));
    assert_eq!(kept.await.unwrap().unwrap().flow_id, 1);
}

#[tokio::test]
async fn more_than_the_most_wait_their_turn() {
    let stage = Stage::new();
    let asked: Vec<_> = (0..MOST + 3).map(|i| stage.ask(&i.to_string())).collect();
    for _ in 0..asked.len() {
        stage.until("one is parked", |parked| !parked.is_empty()).await;
        assert!(stage.parked.lock().unwrap().len() <= MOST);
        let name = stage.parked.lock().unwrap()[0].0.clone();
        stage.answer(&name, Some(1));
    }
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_broken_stream_fails_all_and_is_made_again() {
    let mut stage = Stage::new();
    let waiting = [stage.ask("a"), stage.ask("b")];
    stage.until("both are asked", |parked| parked.len() == 2).await;
    stage.server = None;
    for asked in waiting {
        let status = asked.await.unwrap().unwrap_err();
        assert_eq!((status.code(), status.details().len()), (Code::Unavailable, 0), "{status}");
    }
    stage.parked.lock().unwrap().clear();
    stage.server = Some(serve(&stage.path, &stage.parked));
    let again = async {
        loop {
            let asked = stage.ask("again");
            stage.until("asked or failed", |parked| !parked.is_empty() || asked.is_finished()).await;
            if asked.is_finished() {
                continue;
            }
            stage.answer("again", Some(9));
            return asked.await.unwrap().unwrap().flow_id;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), again).await.unwrap(), 9);
}

#[tokio::test]
async fn dropping_the_caller_gives_up_everything() {
    let mut stage = Stage::new();
    let asked = stage.ask("a");
    stage.until("it is asked", |parked| parked.len() == 1).await;
    asked.abort();
    let _ = asked.await;
    stage.caller = Caller::default();
    stage.until("it is dropped", |parked| parked[0].1.is_closed()).await;
}

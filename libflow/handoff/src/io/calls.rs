//! Many calls over one gRPC stream: the asking and the answering end of [`proto::calls`].
//!
//! A unary call pays for a stream of its own: headers, their compression, a task. One stream per caller and kind of call
//! costs a frame each way (docs/decisions/0008).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use proto::calls::Calls;
use proto::v1::Failure;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

/// Questions on their way into the stream; more wait.
const QUEUE: usize = 1_024;

/// The questions of a stream, as the generated clients take them.
pub type Questions<C> = ReceiverStream<<C as Calls>::Call>;

/// The answers of a stream, as the generated servers give them.
pub type Answers<C> = Pin<Box<dyn Stream<Item = Result<<C as Calls>::Answer, Status>> + Send>>;

/// The asking end. Clones share one stream, opened by the first call and again after it broke.
pub struct Caller<C: Calls> {
    line: Arc<tokio::sync::Mutex<Option<Arc<Line<C>>>>>,
}

/// A stream that stands. Ends with its last owner.
struct Line<C: Calls> {
    questions: mpsc::Sender<C::Call>,
    waiting: Arc<Mutex<Waiting<C::Reply>>>,
}

struct Waiting<R> {
    next: u64,
    calls: HashMap<u64, oneshot::Sender<Result<R, Status>>>,
    /// Why the stream is over.
    over: Option<Status>,
}

/// A question under way; dropped without its answer, the other side hears that nobody waits any more.
struct Question<C: Calls> {
    line: Arc<Line<C>>,
    call: u64,
    answered: bool,
}

impl<C: Calls> Default for Caller<C> {
    fn default() -> Self {
        Self { line: Arc::default() }
    }
}

impl<C: Calls> Clone for Caller<C> {
    fn clone(&self) -> Self {
        Self { line: self.line.clone() }
    }
}

impl<C: Calls> std::fmt::Debug for Caller<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caller")
    }
}

fn lock<R>(waiting: &Mutex<Waiting<R>>) -> MutexGuard<'_, Waiting<R>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Calls> Caller<C> {
    /// Asks and waits for the answer, over a stream that `open` makes if none stands. Dropping the future gives the
    /// question up. A status without details is the transport's: the stream broke, whether before or after the other
    /// side did what was asked.
    pub async fn call<F>(&self, open: impl FnOnce(Questions<C>) -> F, request: C::Request) -> Result<C::Reply, Status>
    where
        F: Future<Output = Result<Response<Streaming<C::Answer>>, Status>>,
    {
        self.call_noting(open, request, &AtomicBool::new(false)).await
    }

    /// The same, for what must not be done twice: `asked` becomes true before the other side can have heard the question.
    pub async fn call_noting<F>(
        &self,
        open: impl FnOnce(Questions<C>) -> F,
        request: C::Request,
        asked: &AtomicBool,
    ) -> Result<C::Reply, Status>
    where
        F: Future<Output = Result<Response<Streaming<C::Answer>>, Status>>,
    {
        let line = self.line(open).await?;
        let (give, answer) = oneshot::channel();
        let call = lock(&line.waiting).begin(give)?;
        let mut question = Question { line, call, answered: false };
        asked.store(true, Ordering::Relaxed);
        // Refused only when the stream is over, which the answer says.
        let _ = question.line.questions.send(C::call(call, Some(request))).await;
        let answer = answer.await.unwrap_or_else(|_| Err(broken("it was dropped")));
        question.answered = true;
        answer
    }

    async fn line<F>(&self, open: impl FnOnce(Questions<C>) -> F) -> Result<Arc<Line<C>>, Status>
    where
        F: Future<Output = Result<Response<Streaming<C::Answer>>, Status>>,
    {
        let mut kept = self.line.lock().await;
        if let Some(line) = &*kept
            && lock(&line.waiting).over.is_none()
        {
            return Ok(line.clone());
        }
        *kept = None;
        let (questions, receiver) = mpsc::channel(QUEUE);
        let answers = open(ReceiverStream::new(receiver)).await?.into_inner();
        let waiting = Arc::new(Mutex::new(Waiting { next: 1, calls: HashMap::new(), over: None }));
        spawn_reader::<C>(answers, waiting.clone());
        let line = Arc::new(Line { questions, waiting });
        *kept = Some(line.clone());
        Ok(line)
    }
}

#[expect(clippy::disallowed_methods, reason = "the task ends with the stream, and the stream with its last caller")]
fn spawn_reader<C: Calls>(mut answers: Streaming<C::Answer>, waiting: Arc<Mutex<Waiting<C::Reply>>>) {
    tokio::spawn(async move {
        let over = loop {
            match answers.message().await {
                Ok(Some(message)) => {
                    let (call, answer) = C::answered(message);
                    if let Some(asker) = lock(&waiting).calls.remove(&call) {
                        // Gone meanwhile: it has said so.
                        let _ = asker.send(answer.map_err(Status::from));
                    }
                }
                Ok(None) => break broken("the other side ended it"),
                Err(status) if status.details().is_empty() => break broken(status.message()),
                Err(status) => break status,
            }
        };
        let mut waiting = lock(&waiting);
        for (_, asker) in waiting.calls.drain() {
            let _ = asker.send(Err(over.clone()));
        }
        waiting.over = Some(over);
    });
}

fn broken(why: &str) -> Status {
    Status::unavailable(format!("the stream of calls is over: {why}"))
}

impl<R> Waiting<R> {
    fn begin(&mut self, asker: oneshot::Sender<Result<R, Status>>) -> Result<u64, Status> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        let call = self.next;
        self.next += 1;
        self.calls.insert(call, asker);
        Ok(call)
    }
}

impl<C: Calls> Drop for Question<C> {
    fn drop(&mut self) {
        if self.answered || lock(&self.line.waiting).calls.remove(&self.call).is_none() {
            return;
        }
        let given_up = self.line.questions.try_send(C::call(self.call, None));
        if let Err(mpsc::error::TrySendError::Full(given_up)) = given_up
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let questions = self.line.questions.clone();
            runtime.spawn(async move { questions.send(given_up).await });
        }
    }
}

/// The answering end: does `work` for each question of the stream, at most `most` at a time (then the asking side
/// waits), and gives the answers as they come. What was given up, or is under way when the stream ends, is dropped.
pub fn answers<C, W, F>(questions: Streaming<C::Call>, most: usize, work: W) -> Answers<C>
where
    C: Calls,
    W: Fn(C::Request) -> F + Send + Unpin + 'static,
    F: Future<Output = Result<C::Reply, Failure>> + Send + 'static,
{
    let start = move |call, request| {
        let work = work(request);
        async move { (call, work.await) }
    };
    Box::pin(Answering::<C, _, _> { questions, most, start, running: FuturesUnordered::new(), handles: HashMap::new() })
}

struct Answering<C: Calls, S, F> {
    questions: Streaming<C::Call>,
    most: usize,
    start: S,
    running: FuturesUnordered<Abortable<F>>,
    handles: HashMap<u64, AbortHandle>,
}

impl<C, S, F> Stream for Answering<C, S, F>
where
    C: Calls,
    S: Fn(u64, C::Request) -> F + Unpin,
    F: Future<Output = (u64, Result<C::Reply, Failure>)>,
{
    type Item = Result<C::Answer, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.running.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok((call, answer)))) => {
                    this.handles.remove(&call);
                    return Poll::Ready(Some(Ok(C::answer(call, answer))));
                }
                // Given up: dropped by now.
                Poll::Ready(Some(Err(Aborted))) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            if this.running.len() >= this.most {
                return Poll::Pending;
            }
            let Poll::Ready(question) = this.questions.poll_next_unpin(cx) else { return Poll::Pending };
            // Whether it ended or broke, nobody hears any answer any more.
            let Some(Ok(message)) = question else { return Poll::Ready(None) };
            match C::called(message) {
                (call, Some(request)) => {
                    let (handle, registration) = AbortHandle::new_pair();
                    this.running.push(Abortable::new((this.start)(call, request), registration));
                    this.handles.insert(call, handle);
                }
                (call, None) => {
                    if let Some(handle) = this.handles.remove(&call) {
                        handle.abort();
                    }
                }
            }
        }
    }
}

//! How a gRPC handler asks the machine's owner, and how the owner learns that the handler is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use handoff::Answers;
use proto::calls::Calls;
use proto::v1::{Failure, FailureKind};
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use crate::machine::{CallId, Caller, Command, Reply};

/// Calls of one kind that one process may have open: accepts and allocations park. The machine bounds them further.
const CALLS: usize = 65_536;
/// Commands on their way to the machine; handlers wait for room.
const QUEUE: usize = 1_024;

/// One call on its way to the machine.
#[derive(Debug)]
pub(super) struct Ask {
    /// Its id.
    pub(super) call: CallId,
    /// Who calls.
    pub(super) caller: Caller,
    /// What is asked.
    pub(super) command: Command,
    /// Where the reply goes. Closed: the caller is gone already.
    pub(super) reply: oneshot::Sender<Reply>,
}

/// The handlers' end. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    asks: mpsc::Sender<Ask>,
    gone: Arc<Gone>,
    next: Arc<AtomicU64>,
}

/// Calls whose callers went away. Never longer than there were calls open at one time.
#[derive(Debug, Default)]
pub(super) struct Gone {
    calls: Mutex<Vec<CallId>>,
    wake: Notify,
}

/// A call that is being asked; dropping it tells the owner that nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Open {
    call: CallId,
    gone: Arc<Gone>,
    answered: bool,
}

/// The two ends of the way from handlers to the machine's owner.
pub(super) fn channel() -> (Asker, mpsc::Receiver<Ask>, Arc<Gone>) {
    let (asks, receiver) = mpsc::channel(QUEUE);
    let gone = Arc::new(Gone::default());
    // Call 0 stands for none.
    (Asker { asks, gone: gone.clone(), next: Arc::new(AtomicU64::new(1)) }, receiver, gone)
}

impl Gone {
    /// Waits until a caller goes.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// The calls whose callers went since the last time.
    pub(super) fn take(&self) -> Vec<CallId> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.answered {
            self.gone.calls.lock().unwrap_or_else(PoisonError::into_inner).push(self.call);
            self.gone.wake.notify_one();
        }
    }
}

impl Asker {
    /// Asks and waits for the reply.
    pub(super) async fn ask(&self, caller: Caller, command: Command) -> Result<Reply, Failure> {
        let (reply, mut open) = self.ask_open(caller, command).await?;
        open.answered = true;
        Ok(reply)
    }

    /// The answers to a caller's stream of calls of one kind, each asked as `command` says.
    pub(super) fn answers<C: Calls>(
        &self,
        caller: Caller,
        calls: Request<Streaming<C::Call>>,
        command: fn(C::Request) -> Result<Command, Failure>,
        reply: fn(Reply) -> Result<C::Reply, Failure>,
    ) -> Result<Response<Answers<C>>, Status> {
        let asker = self.clone();
        let work = move |request| {
            let (asker, caller) = (asker.clone(), caller.clone());
            async move { reply(asker.ask(caller, command(request)?).await?) }
        };
        Ok(Response::new(handoff::answers::<C, _, _>(calls.into_inner(), CALLS, work)))
    }

    /// [`ask`](Self::ask) for a call that stays open after its reply.
    pub(super) async fn ask_open(&self, caller: Caller, command: Command) -> Result<(Reply, Open), Failure> {
        let call = CallId(self.next.fetch_add(1, Ordering::Relaxed));
        let mut open = Open { call, gone: self.gone.clone(), answered: false };
        let (reply, answer) = oneshot::channel();
        let sent = self.asks.send(Ask { call, caller, command, reply }).await;
        let answer = if sent.is_ok() { answer.await.ok() } else { None };
        match answer {
            Some(Reply::Failed(failure)) => {
                open.answered = true;
                Err(failure)
            }
            Some(reply) => Ok((reply, open)),
            None => {
                open.answered = true;
                // What waited was not granted: it can be asked again.
                Err(Failure::new(FailureKind::Recovering, "irmd is stopping; ask again when it runs"))
            }
        }
    }
}

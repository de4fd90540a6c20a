//! The names that this process serves, and the flows that come for them.
#![expect(clippy::disallowed_methods, reason = "io owns timers and tasks")]

use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::{Failure, FailureKind, FlowAcceptRequest, FlowHandle, ServeRequest, UnserveRequest};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tonic::Response;

use super::keeper::{Context, Delivered, GRACE, Keeper, LOOK_AGAIN, Reply, SHORT_WITHIN, thread_died};
use super::patience::{Patience, comes_back_some_day};
use crate::error::CallError;

/// A name is served again so often for one accept, after such pauses, while irmd says that it is not.
const SERVED_AGAIN: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(50);
/// An accept at irmd for which nobody waits any more is given up after this long.
const TAKEN_OVER_WITHIN: Duration = Duration::from_millis(100);
/// Names told at once to an irmd that is back.
const SERVED_AT_ONCE: usize = 32;

/// A name is served as long as this lives.
pub(crate) struct Serving {
    pub(crate) layers: Vec<String>,
    _end: oneshot::Sender<()>,
}

/// A name that is served.
pub(super) struct Served {
    request: ServeRequest,
    listeners: usize,
    /// Accepted, and nobody waited any more.
    left_over: VecDeque<Delivered>,
    waiting: VecDeque<Reply<Delivered>>,
    /// Accepts that irmd has of this process.
    asks: usize,
    /// Somebody came to wait, or went.
    changed: Rc<Notify>,
}

impl Served {
    fn new(request: ServeRequest) -> Self {
        let (left_over, waiting, changed) = (VecDeque::new(), VecDeque::new(), Rc::default());
        Self { request, listeners: 0, left_over, waiting, asks: 0, changed }
    }

    /// How many wait.
    fn waiting(&mut self) -> usize {
        self.waiting.retain(|tell| !tell.is_closed());
        self.waiting.len()
    }
}

impl Context {
    pub(super) async fn serve(self: &Rc<Self>, request: ServeRequest) -> Result<Serving, CallError> {
        let layers = self.say_served(&request).await?;
        let name = request.name.clone();
        self.served.borrow_mut().entry(name.clone()).or_insert_with(|| Served::new(request)).listeners += 1;
        let (end, ended) = oneshot::channel();
        let context = self.clone();
        self.farewells.borrow_mut().spawn_local(async move {
            let _ = ended.await;
            context.unserve(name).await;
        });
        Ok(Serving { layers, _end: end })
    }

    async fn say_served(&self, request: &ServeRequest) -> Result<Vec<String>, CallError> {
        // irmd learns by the lease that this process is gone.
        self.open_irmd_lease().await?;
        let call = self.irm.call(Some(SHORT_WITHIN), |mut irm| {
            let request = request.clone();
            async move { irm.client.serve(request).await.map(Response::into_inner) }
        });
        Ok(call.await?.layers)
    }

    async fn unserve(&self, name: String) {
        let last = {
            let mut served = self.served.borrow_mut();
            let left = served.get_mut(&name).map_or(0, |served| {
                served.listeners -= 1;
                served.listeners
            });
            if left == 0 {
                served.remove(&name);
            }
            left == 0
        };
        if last && self.irmd_lease().outside.is_open() {
            let request = UnserveRequest { name };
            let call = self.irm.call(Some(SHORT_WITHIN), |mut irm| {
                let request = request.clone();
                async move { irm.client.unserve(request).await }
            });
            // irmd has ended meanwhile, or knows better: nothing is served any more either way.
            let _ = call.await;
        }
    }

    /// irmd was restarted: it does not know what this process serves.
    pub(super) async fn serve_again(self: Rc<Self>) {
        let requests: Vec<_> = self.served.borrow().values().map(|served| served.request.clone()).collect();
        let mut under_way = JoinSet::new();
        for request in requests {
            if under_way.len() == SERVED_AT_ONCE {
                under_way.join_next().await;
            }
            let context = self.clone();
            // A failure shows at the next accept, which serves again before it waits.
            under_way.spawn_local(async move { drop(context.say_served(&request).await) });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Waits for the next flow for whoever accepts. irmd is asked by tasks of their own, one for each that waits: a wait that
    /// is given up while its flow is on the way leaves it to the next.
    pub(super) async fn accepted(
        self: Rc<Self>,
        name: String,
        within: Option<Duration>,
        keeper: Arc<Keeper>,
        mut reply: Reply<Delivered>,
    ) {
        let Some(told) = self.wait(&name, keeper) else {
            let text = format!("{name} is not served by this process any more");
            return drop(reply.send(Err(CallError::Failed(Failure::new(FailureKind::NotPermitted, text)))));
        };
        let over = async {
            match within {
                Some(within) => tokio::time::sleep(within).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            told = told => told.unwrap_or_else(|_| Err(thread_died())),
            () = reply.closed() => return self.changed(&name),
            () = over => {
                self.changed(&name);
                Err(CallError::Failed(Failure::new(FailureKind::TimedOut, "no flow arrived in time")))
            }
        };
        if let Err(Ok(delivered)) = reply.send(result) {
            self.give(&name, Ok(delivered));
        }
    }

    /// One more waits; what it is told. `None`: nobody serves the name.
    fn wait(
        self: &Rc<Self>,
        name: &str,
        keeper: Arc<Keeper>,
    ) -> Option<oneshot::Receiver<Result<Delivered, CallError>>> {
        let (tell, told) = oneshot::channel();
        let mut all = self.served.borrow_mut();
        let served = all.get_mut(name)?;
        if let Some(delivered) = served.left_over.pop_front() {
            let _ = tell.send(Ok(delivered));
            return Some(told);
        }
        served.waiting.push_back(tell);
        served.changed.notify_waiters();
        if served.asks < served.waiting() {
            served.asks += 1;
            self.asks.borrow_mut().spawn_local(self.clone().ask(name.to_owned(), served.changed.clone(), keeper));
        }
        Some(told)
    }

    fn changed(&self, name: &str) {
        if let Some(served) = self.served.borrow().get(name) {
            served.changed.notify_waiters();
        }
    }

    /// Asks irmd for flows as long as more wait than ask.
    async fn ask(self: Rc<Self>, name: String, changed: Rc<Notify>, keeper: Arc<Keeper>) {
        loop {
            let got = tokio::select! {
                biased;
                got = self.accept(&name, false, None) => Some(got),
                () = self.nobody_waits(&name, &changed) => None,
            };
            if let Some(got) = got {
                let got = self.take(got, keeper.clone()).await;
                self.give(&name, got);
            }
            match self.served.borrow_mut().get_mut(&name) {
                Some(served) if Rc::ptr_eq(&served.changed, &changed) => {
                    if served.asks > served.waiting() {
                        served.asks -= 1;
                        return;
                    }
                }
                // Served no more, or anew: by tasks of its own.
                _ => return,
            }
        }
    }

    /// Waits until nobody has waited for a while: until then the next wait takes over what is under way.
    async fn nobody_waits(&self, name: &str, changed: &Notify) {
        loop {
            let mut change = pin!(changed.notified());
            change.as_mut().enable();
            let too_many = self.served.borrow_mut().get_mut(name).is_none_or(|served| served.asks > served.waiting());
            if !too_many {
                change.await;
            } else if tokio::time::timeout(TAKEN_OVER_WITHIN, change).await.is_err() {
                return;
            }
        }
    }

    /// To the first that waits; a flow that nobody waits for is kept for the next, as long as the name is served.
    fn give(&self, name: &str, mut got: Result<Delivered, CallError>) {
        let mut all = self.served.borrow_mut();
        let Some(served) = all.get_mut(name) else { return };
        while let Some(tell) = served.waiting.pop_front() {
            match tell.send(got) {
                Ok(()) => return,
                Err(back) => got = back,
            }
        }
        served.left_over.extend(got.ok());
    }

    /// The next flow for a name; goes on waiting when irmd is restarted.
    pub(super) async fn accept(
        &self,
        name: &str,
        ask: bool,
        within: Option<Duration>,
    ) -> Result<FlowHandle, CallError> {
        let mut again = self.irmd_again.subscribe();
        let patience = Patience::new(within);
        let mut served_again = 0;
        loop {
            let left = patience.left();
            let timeout_ms = left.map_or(0, |d| u32::try_from(d.as_millis()).unwrap_or(u32::MAX).max(1));
            let request = FlowAcceptRequest { name: name.to_owned(), ask, timeout_ms };
            let result = self.irm.call(left.map(|d| d + GRACE), |irm| irm.flow_accept(request.clone())).await;
            let stranger = matches!(&result, Err(CallError::Failed(f)) if f.kind() == FailureKind::NotPermitted);
            match result {
                Err(error) if comes_back_some_day(&error) && patience.lasts() => {
                    let _ = tokio::time::timeout(LOOK_AGAIN, again.changed()).await;
                }
                // An irmd that came back a moment ago has not heard yet that this process serves the name. It may be
                // the next one already that has not heard.
                Err(_) if stranger && served_again < SERVED_AGAIN && patience.lasts() => {
                    if served_again > 0 {
                        let _ = tokio::time::timeout(BETWEEN, again.changed()).await;
                    }
                    served_again += 1;
                }
                other => return other,
            }
            let request = self.served.borrow().get(name).map(|served| served.request.clone());
            let Some(request) = request else {
                let text = format!("{name} is not served by this process any more");
                return Err(CallError::Failed(Failure::new(FailureKind::NotPermitted, text)));
            };
            match self.say_served(&request).await {
                Ok(_) => {}
                Err(error) if comes_back_some_day(&error) => served_again = 0,
                Err(other) => return Err(other),
            }
        }
    }
}

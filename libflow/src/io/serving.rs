//! The names that this process serves, and the flows that come for them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use proto::v1::{Failure, FailureKind, FlowAcceptRequest, FlowHandle, ServeRequest, UnserveRequest};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::Response;

use super::keeper::{Context, Delivered, GRACE, LOOK_AGAIN, SHORT_WITHIN};
use super::patience::{Patience, comes_back_some_day};
use crate::error::CallError;

/// A name is served again so often for one accept, after such pauses, while irmd says that it is not.
const SERVED_AGAIN: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(50);
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
    left_over: VecDeque<Delivered>,
}

impl Served {
    fn new(request: ServeRequest) -> Self {
        Self { request, listeners: 0, left_over: VecDeque::new() }
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

    /// A flow that whoever accepted it no longer waited for: the next accept's.
    pub(super) fn left_over(&self, name: &str) -> Option<Delivered> {
        self.served.borrow_mut().get_mut(name)?.left_over.pop_front()
    }

    /// Keeps a flow for the next accept, as long as the name is served.
    pub(super) fn keep(&self, delivered: Delivered) {
        if let Some(served) = self.served.borrow_mut().get_mut(&delivered.1.name) {
            served.left_over.push_back(delivered);
        }
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

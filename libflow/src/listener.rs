//! Serving a name.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::{FlowHandle, ServeRequest};
use proto::{Name, Qos, protocol_version};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use transport::Congestion;

use crate::error::{AcceptError, CallError, ListenError};
use crate::flow::Flow;
use crate::io::keeper::{Arrived, Command, Decision, Delivered, Keeper, thread_died};
use crate::io::serving::Serving;
use crate::io::shake::Shake;
use crate::io::shaking::Shaking;
use crate::io::timer::Timer;
use crate::io::{aside, park};
use crate::peer::Peer;

/// A wish to serve a name; `.await` it, or [`wait`](Self::wait) in a program without a runtime.
#[must_use = "nothing is served until it is awaited"]
pub struct Listen {
    keeper: Arc<Keeper>,
    request: ServeRequest,
    congestion: Congestion,
}

impl Listen {
    pub(crate) fn new(keeper: Arc<Keeper>, name: &str) -> Self {
        let request = ServeRequest {
            version: protocol_version(),
            name: name.to_owned(),
            create: true,
            register: true,
            layers: Vec::new(),
        };
        Self { keeper, request, congestion: Congestion::default() }
    }

    /// Create the name if it does not exist (the default).
    pub fn create(mut self, create: bool) -> Self {
        self.request.create = create;
        self
    }

    /// Register the name, so that other hosts reach it (the default); else it serves this host only, and the layers
    /// it was registered in otherwise.
    pub fn register(mut self, register: bool) -> Self {
        self.request.register = register;
        self
    }

    /// Register it in these layers; by default in every layer there is.
    pub fn layers<S: Into<String>>(mut self, layers: impl IntoIterator<Item = S>) -> Self {
        self.request.layers = layers.into_iter().map(Into::into).collect();
        self
    }

    /// How this side finds out how much the paths of message and stream flows bear.
    pub fn congestion(mut self, congestion: Congestion) -> Self {
        self.congestion = congestion;
        self
    }

    /// Blocks the thread until the name is served: for programs without a runtime.
    pub fn wait(self) -> Result<crate::blocking::Listener, ListenError> {
        park::wait(self.run()).map(crate::blocking::Listener::from)
    }

    async fn run(self) -> Result<Listener, ListenError> {
        let Self { keeper, request, congestion } = self;
        let name = request.name.clone();
        if let Err(error) = Name::new(&name) {
            return Err(ListenError::Invalid { message: format!("{name:?} is no name: {error}") });
        }
        let serving = keeper.call(|reply| Command::Serve { request, reply }).await?;
        Ok(Listener { serving, name, keeper, congestion, shaking: Shaking::new() })
    }
}

impl IntoFuture for Listen {
    type Output = Result<Listener, ListenError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Serves a name as long as it lives. Flows that are accepted outlive it.
///
/// When irmd is restarted, the name is served again and waiting accepts go on waiting.
pub struct Listener {
    serving: Serving,
    name: String,
    keeper: Arc<Keeper>,
    congestion: Congestion,
    shaking: Shaking,
}

impl Listener {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The layers the name is registered in.
    pub fn layers(&self) -> &[String] {
        &self.serving.layers
    }

    /// The next flow, accepted. Several tasks may wait at once; a dropped wait loses no flow.
    pub async fn accept(&self) -> Result<Flow, AcceptError> {
        self.accept_for(None).await
    }

    /// The same, for a bounded time.
    pub async fn accept_within(&self, within: Duration) -> Result<Flow, AcceptError> {
        self.accept_for(Some(within)).await
    }

    /// The next flow, not accepted yet: look at who asks, then accept or refuse.
    pub async fn incoming(&self) -> Result<Incoming, AcceptError> {
        self.incoming_for(None).await
    }

    /// The same, for a bounded time.
    pub async fn incoming_within(&self, within: Duration) -> Result<Incoming, AcceptError> {
        self.incoming_for(Some(within)).await
    }

    pub(crate) async fn accept_for(&self, within: Option<Duration>) -> Result<Flow, AcceptError> {
        let timer = within.map(Timer::start);
        loop {
            let next = self.delivered(timer.as_ref().map(Timer::left));
            let (accepted, room) = tokio::select! {
                biased;
                flow = self.shaking.next() => return Ok(flow),
                next = next => next,
            };
            let (core, handle) = accepted.map_err(|error| AcceptError::of(error, within))?;
            let shake = Shake { core, handle, keeper: self.keeper.clone(), congestion: self.congestion };
            if !shake.is_needed() {
                return Ok(shake.flow()?);
            }
            self.shaking.begin(&aside::runtime()?, room, async move { shake.accepting().await.ok() });
        }
    }

    /// The next flow's socket, and room for its handshake.
    async fn delivered(&self, within: Option<Duration>) -> (Result<Delivered, CallError>, OwnedSemaphorePermit) {
        let room = self.shaking.room().await;
        let (name, keeper) = (self.name.clone(), self.keeper.clone());
        (self.keeper.call(|reply| Command::Accept { name, within, keeper, reply }).await, room)
    }

    pub(crate) async fn incoming_for(&self, within: Option<Duration>) -> Result<Incoming, AcceptError> {
        let name = self.name.clone();
        let arrived = self.keeper.call(|reply| Command::Incoming { name, within, reply }).await;
        let Arrived { handle, decide } = arrived.map_err(|error| AcceptError::of(error, within))?;
        let (keeper, congestion) = (self.keeper.clone(), self.congestion);
        Ok(Incoming { peer: Peer::of(&handle), handle, decide, keeper, congestion })
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).field("layers", &self.layers()).finish()
    }
}

/// A flow that waits for this program's answer. Dropped, it is refused.
pub struct Incoming {
    peer: Peer,
    handle: FlowHandle,
    decide: oneshot::Sender<Decision>,
    keeper: Arc<Keeper>,
    congestion: Congestion,
}

impl Incoming {
    /// The name that was asked for.
    pub fn name(&self) -> &str {
        &self.peer.name
    }

    /// Who asks, as it says; "John Day" for a classic caller.
    pub fn source(&self) -> &str {
        &self.peer.source
    }

    /// All that is known of the peer.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What is asked of the flow.
    pub fn qos(&self) -> Qos {
        self.handle.qos.and_then(|qos| Qos::try_from(qos).ok()).unwrap_or_default()
    }

    /// What came with the request. Not authenticated yet: [`Flow::data`] of a message or stream flow is.
    pub fn data(&self) -> &[u8] {
        &self.handle.data
    }

    /// Accepts.
    pub async fn accept(self) -> Result<Flow, AcceptError> {
        self.accept_with(Vec::new()).await
    }

    /// Accepts, with bytes that reach the caller together with its flow; at most [`crate::MAX_DATA`]. For a message or stream
    /// flow this waits for the caller's handshake.
    pub async fn accept_with(self, data: impl Into<Vec<u8>>) -> Result<Flow, AcceptError> {
        let (data, keeper) = (data.into(), self.keeper.clone());
        let core = decide(self.decide, |reply| Decision::Accept { data, keeper, reply }).await?;
        let Self { handle, keeper, congestion, .. } = self;
        Shake { core, handle, keeper, congestion }.accepting().await
    }

    /// Refuses, with words that the caller is told; at most 200 bytes of them.
    pub async fn refuse(self, reason: &str) -> Result<(), AcceptError> {
        let reason = proto::clip(reason, proto::shim::MAX_REASON).to_owned();
        decide(self.decide, |reply| Decision::Refuse { reason, reply }).await
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("peer", &self.peer).finish_non_exhaustive()
    }
}

async fn decide<T>(
    decide: oneshot::Sender<Decision>,
    decision: impl FnOnce(oneshot::Sender<Result<T, CallError>>) -> Decision,
) -> Result<T, AcceptError> {
    let (reply, answer) = oneshot::channel();
    let result = match decide.send(decision(reply)) {
        Ok(()) => answer.await.unwrap_or_else(|_| Err(thread_died())),
        Err(_) => Err(thread_died()),
    };
    result.map_err(AcceptError::from)
}

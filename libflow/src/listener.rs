//! Serving a name.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::{FlowHandle, ServeRequest};
use proto::{Name, protocol_version};
use tokio::sync::oneshot;

use crate::error::{AcceptError, ListenError};
use crate::flow::Flow;
use crate::io::keeper::{Arrived, Command, Decision, Keeper, Serving, thread_died};
use crate::io::park;
use crate::peer::Peer;

/// A wish to serve a name; `.await` it, or [`wait`](Self::wait) in a program without a runtime.
#[must_use = "nothing is served until it is awaited"]
pub struct Listen {
    keeper: Arc<Keeper>,
    request: ServeRequest,
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
        Self { keeper, request }
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

    /// Blocks the thread until the name is served: for programs without a runtime.
    pub fn wait(self) -> Result<crate::blocking::Listener, ListenError> {
        park::wait(self.run()).map(crate::blocking::Listener::from)
    }

    async fn run(self) -> Result<Listener, ListenError> {
        let Self { keeper, request } = self;
        let name = request.name.clone();
        if let Err(error) = Name::new(&name) {
            return Err(ListenError::Invalid { message: format!("{name:?} is no name: {error}") });
        }
        let serving = keeper.call(|reply| Command::Serve { request, reply }).await?;
        Ok(Listener { serving, name, keeper })
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
        let (name, keeper) = (self.name.clone(), self.keeper.clone());
        let accepted = self.keeper.call(|reply| Command::Accept { name, within, keeper, reply }).await;
        let (core, handle) = accepted.map_err(|error| AcceptError::of(error, within))?;
        Ok(Flow::delivered(core, handle))
    }

    pub(crate) async fn incoming_for(&self, within: Option<Duration>) -> Result<Incoming, AcceptError> {
        let name = self.name.clone();
        let arrived = self.keeper.call(|reply| Command::Incoming { name, within, reply }).await;
        let Arrived { handle, decide } = arrived.map_err(|error| AcceptError::of(error, within))?;
        Ok(Incoming { peer: Peer::of(&handle), handle, decide, keeper: self.keeper.clone() })
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

    /// What came with the request. Not authenticated.
    pub fn data(&self) -> &[u8] {
        &self.handle.data
    }

    /// Accepts.
    pub async fn accept(self) -> Result<Flow, AcceptError> {
        self.accept_with(Vec::new()).await
    }

    /// Accepts, with bytes that reach the caller together with its flow; at most [`crate::MAX_DATA`].
    pub async fn accept_with(self, data: impl Into<Vec<u8>>) -> Result<Flow, AcceptError> {
        let (data, keeper) = (data.into(), self.keeper.clone());
        let core = decide(self.decide, |reply| Decision::Accept { data, keeper, reply }).await?;
        Ok(Flow::delivered(core, self.handle))
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
    decision: impl FnOnce(oneshot::Sender<Result<T, crate::error::CallError>>) -> Decision,
) -> Result<T, AcceptError> {
    let (reply, answer) = oneshot::channel();
    let result = match decide.send(decision(reply)) {
        Ok(()) => answer.await.unwrap_or_else(|_| Err(thread_died())),
        Err(_) => Err(thread_died()),
    };
    result.map_err(AcceptError::from)
}

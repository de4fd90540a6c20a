//! Asking for a flow.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proto::shim::MAX_DATA;
use proto::v1::FlowAllocRequest;
use proto::{Name, Qos, protocol_version};
use transport::Congestion;

use crate::error::AllocError;
use crate::flow::Flow;
use crate::io::keeper::{Command, Keeper};
use crate::io::park;
use crate::io::shake::Shake;
use crate::io::timer::Timer;

/// irmd's default for an allocation, which a message or stream flow's handshake is part of.
const WITHIN: Duration = Duration::from_secs(5);

/// A request for a flow; `.await` it, or [`wait`](Self::wait) in a program without a runtime.
#[must_use = "nothing is allocated until it is awaited"]
pub struct Alloc {
    keeper: Arc<Keeper>,
    name: String,
    qos: Qos,
    layer: String,
    timeout: Option<Duration>,
    source: String,
    data: Vec<u8>,
    congestion: Congestion,
}

impl Alloc {
    pub(crate) fn new(keeper: Arc<Keeper>, name: &str) -> Self {
        let (name, layer, source) = (name.to_owned(), String::new(), String::new());
        Self {
            keeper,
            name,
            qos: Qos::raw(),
            layer,
            timeout: None,
            source,
            data: Vec::new(),
            congestion: Congestion::default(),
        }
    }

    /// What the flow is to be like; raw by default.
    pub fn qos(mut self, qos: Qos) -> Self {
        self.qos = qos;
        self
    }

    /// Only over this layer; by default over the first that reaches the name, this host itself before all.
    pub fn layer(mut self, layer: &str) -> Self {
        layer.clone_into(&mut self.layer);
        self
    }

    /// How long to try, up to 60 s; 5 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The name the peer is told as the flow's source.
    pub fn source(mut self, name: &str) -> Self {
        name.clone_into(&mut self.source);
        self
    }

    /// Bytes that reach the accepting program with the request; they cost no round trip. At most
    /// [`crate::MAX_DATA`].
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    /// How this side finds out how much the path of a message or stream flow bears.
    pub fn congestion(mut self, congestion: Congestion) -> Self {
        self.congestion = congestion;
        self
    }

    /// Blocks the thread until the flow is allocated: for programs without a runtime.
    pub fn wait(self) -> Result<crate::blocking::Flow, AllocError> {
        park::wait(self.run()).map(crate::blocking::Flow::from)
    }

    async fn run(self) -> Result<Flow, AllocError> {
        let request = self.check()?;
        let timer = Timer::start(self.timeout.unwrap_or(WITHIN));
        let keeper = self.keeper.clone();
        let (core, handle) = self.keeper.call(|reply| Command::Alloc { request, keeper, reply }).await?;
        let shake = Shake { core, handle, keeper: self.keeper, congestion: self.congestion };
        shake.asking(self.source, timer.left()).await
    }

    /// What irmd would refuse anyway, without asking it.
    fn check(&self) -> Result<FlowAllocRequest, AllocError> {
        let invalid = |message: String| AllocError::Invalid { message };
        let names = [&self.name, &self.source];
        // A flow need not have a source; it must have a name.
        for name in names.into_iter().take(if self.source.is_empty() { 1 } else { 2 }) {
            if let Err(error) = Name::new(name) {
                return Err(invalid(format!("{name:?} is no name: {error}")));
            }
        }
        if self.data.len() > MAX_DATA {
            return Err(invalid(format!(
                "{} bytes of data do not fit a request for a flow, which carries {MAX_DATA}; send the rest as SDUs",
                self.data.len()
            )));
        }
        Ok(FlowAllocRequest {
            version: protocol_version(),
            name: self.name.clone(),
            qos: Some(self.qos.into()),
            layer: self.layer.clone(),
            timeout_ms: self.timeout.map_or(0, |d| u32::try_from(d.as_millis()).unwrap_or(u32::MAX).max(1)),
            source_name: self.source.clone(),
            data: self.data.clone(),
        })
    }
}

impl IntoFuture for Alloc {
    type Output = Result<Flow, AllocError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

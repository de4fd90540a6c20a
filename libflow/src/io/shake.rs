//! From a socket to a flow: what the QoS asks for beyond datagrams.
#![expect(clippy::disallowed_methods, reason = "io reads the clock and owns a flow's tasks")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::Cube;
use proto::v1::{FlowHandle, JudgeReply, JudgeRequest};
use transport::{Congestion, local, quic};

use super::aside;
use super::core::{Carrier, Core};
use super::keeper::{Command, Keeper};
use super::mux::{Held, Mux};
use super::papers::{As, Paper};
use super::path::{self, Moving, Path};
use crate::error::{AcceptError, AllocError, CallError};
use crate::flow::{Flow, qos_of};
use crate::peer::Identity;

/// A peer that asked for a flow shows who it is within this time.
const ACCEPTING_WITHIN: Duration = Duration::from_secs(5);
/// Mappings of NATs live longer, most of them.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A flow that was handed over, and what it takes to make it what was asked for.
pub(crate) struct Shake {
    pub(crate) core: Arc<Core>,
    pub(crate) handle: FlowHandle,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) congestion: Congestion,
}

/// Why a flow that was handed over is none.
pub(crate) enum Failed {
    Call(CallError),
    Handshake(quic::HandshakeError),
    Io(std::io::Error),
}

impl Shake {
    fn cube(&self) -> Cube {
        qos_of(&self.handle).cube
    }

    /// Whether there is anybody to shake hands with: within a host the kernel vouches.
    pub(crate) fn is_needed(&self) -> bool {
        self.cube() != Cube::Raw && self.core.carrier != Carrier::Local
    }

    /// The flow, where no handshake is needed.
    pub(crate) fn flow(self) -> std::io::Result<Flow> {
        if self.cube() != Cube::Stream {
            return Ok(Flow::delivered(self.core, self.handle));
        }
        let runtime = aside::runtime()?;
        let mux = {
            let _watched = runtime.enter();
            Mux::Local(local::Flow::new(Path::new(self.core.clone()).0, self.core.sdu_limit())?)
        };
        let held = Held::new(mux, self.core.clone(), runtime);
        Ok(Flow::over(self.core, Some(held), self.handle))
    }

    /// The side that asked, as `source`.
    pub(crate) async fn asking(self, source: String, within: Duration) -> Result<Flow, AllocError> {
        let name = self.handle.name.clone();
        if !self.is_needed() {
            return Ok(self.flow()?.asked());
        }
        let runtime = aside::runtime()?;
        let shaken = aside::run(&runtime, self.ask(source, within)).await;
        match shaken {
            Some(Ok(flow)) => Ok(flow.asked()),
            Some(Err(failed)) => Err(failed.of_alloc(&name)),
            None => Err(AllocError::Failed { message: "the program's runtime is shutting down".to_owned() }),
        }
    }

    /// The side that accepted.
    pub(crate) async fn accepting(self) -> Result<Flow, AcceptError> {
        if !self.is_needed() {
            return Ok(self.flow()?);
        }
        let runtime = aside::runtime()?;
        match aside::run(&runtime, self.accept()).await {
            Some(Ok(flow)) => Ok(flow),
            Some(Err(failed)) => Err(failed.of_accept()),
            None => Err(AcceptError::Failed { message: "the program's runtime is shutting down".to_owned() }),
        }
    }

    async fn ask(self, source: String, within: Duration) -> Result<Flow, Failed> {
        let deadline = Instant::now() + within;
        let name = self.handle.name.parse().map_err(|_| Failed::Io(std::io::ErrorKind::InvalidData.into()))?;
        let credentials = self.credentials(As::Asking(source)).await?;
        let asking = quic::Asking { name, binding: self.binding()?, credentials, options: self.options() };
        let (path, moving) = Path::new(self.core.clone());
        let answered = quic::asking(Arc::new(path), asking, deadline).await?;
        let identity = match self.judge(answered.chain()).await {
            Ok(identity) => identity,
            Err(error) => {
                answered.refuse("the asking host does not trust this one with the name").await;
                return Err(error.into());
            }
        };
        let flow = answered.admitted().await?;
        Ok(self.made(flow, moving, identity))
    }

    async fn accept(self) -> Result<Flow, Failed> {
        let deadline = Instant::now() + ACCEPTING_WITHIN;
        let credentials = self.credentials(As::Server(self.handle.name.clone())).await?;
        let follow = self.core.secured.is_some_and(|secured| !secured.fixed);
        let (judged, binding, options) = (self.handle.judged, self.binding()?, self.options());
        let accepting = quic::Accepting { binding, credentials, judged, follow, options };
        let (path, moving) = Path::new(self.core.clone());
        let shown = quic::accepting(Arc::new(path), accepting, deadline).await?;
        let identity = match self.judge(shown.chain()).await {
            Ok(identity) => identity,
            Err(error) => {
                shown.refuse(&error.words()).await;
                return Err(error.into());
            }
        };
        let flow = shown.admit().await?;
        Ok(self.made(flow, moving, identity))
    }

    async fn credentials(&self, who: As) -> Result<quic::Credentials, Failed> {
        let Paper { chain, key } = self.keeper.papers.get(&self.keeper, who).await?;
        Ok(quic::Credentials::new(chain, key)?)
    }

    fn made(self, flow: quic::Flow, moving: Arc<Moving>, identity: Identity) -> Flow {
        let _ = self.core.carried.set(flow.watch());
        tokio::spawn(path::publish(Arc::downgrade(&self.core), moving, flow.watch()));
        let held = Held::new(Mux::Quic(flow), self.core.clone(), tokio::runtime::Handle::current());
        Flow::over(self.core, Some(held), self.handle).with_identity(identity)
    }

    fn binding(&self) -> Result<[u8; 32], Failed> {
        let missing =
            "the IPC process gave nothing to bind the handshake to; run ipcpd-udp and this program of one release";
        let secured = self.core.secured.ok_or_else(|| Failed::Io(std::io::Error::other(missing)))?;
        Ok(secured.binding.0)
    }

    fn options(&self) -> quic::Options {
        let qos = qos_of(&self.handle);
        let mut options = quic::Options { congestion: self.congestion, ..quic::Options::default() };
        if qos.timeout_ms > 0 {
            options.idle_timeout = Duration::from_millis(qos.timeout_ms.into());
            options.keep_alive = Some(KEEP_ALIVE.min(options.idle_timeout / 3));
        }
        if qos.keepalive_ms > 0 {
            options.keep_alive = Some(Duration::from_millis(qos.keepalive_ms.into()));
        }
        options
    }

    /// irmd's word on who showed up.
    async fn judge(&self, chain: &[identity::CertificateDer<'static>]) -> Result<Identity, CallError> {
        let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
        let request = JudgeRequest { flow_id: self.core.id().0, chain };
        let judged = self.keeper.call(|reply| Command::Judge { request, reply }).await;
        let JudgeReply { host, name, trusted_by } = judged?;
        Ok(Identity { host, name, trusted_by })
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<quic::HandshakeError> for Failed {
    fn from(error: quic::HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

impl Failed {
    fn of_alloc(self, name: &str) -> AllocError {
        match self {
            Self::Call(error) => error.into(),
            Self::Io(error) => error.into(),
            Self::Handshake(error) => {
                AllocError::Handshake { message: format!("the flow to {name} was allocated, but {error}") }
            }
        }
    }

    fn of_accept(self) -> AcceptError {
        match self {
            Self::Call(error) => error.into(),
            Self::Io(error) => error.into(),
            Self::Handshake(error) => AcceptError::Gone { message: format!("the flow came to nothing: {error}") },
        }
    }
}

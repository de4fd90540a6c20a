//! A flow, for async programs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use proto::v1::FlowHandle;
use proto::{FlowId, Qos};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::batch::Batch;
use crate::error::FlowError;
use crate::io::core::Core;
use crate::io::sdu::{Stop, Wait};
use crate::peer::{Counters, Peer};

/// One end of a flow: the kernel's socket, and what is known about it. Dropping it deallocates it.
///
/// All calls take `&self`: an `Arc<Flow>` may send in one task and receive in another. The waiting calls need a tokio
/// runtime; the first of them ties the flow to the runtime it is called in.
///
/// [`AsFd`] gives the socket itself, in blocking mode, to `poll`, `read` and `write`; what goes past these methods is
/// not counted, and the kernel, not the flow, says when it is over. Do not set it non-blocking: the daemon shares it.
pub struct Flow {
    // Dropped before the descriptor it watches.
    watched: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    core: Arc<Core>,
    peer: Peer,
    qos: Qos,
    data: Vec<u8>,
}

impl Flow {
    pub(crate) fn delivered(core: Arc<Core>, handle: FlowHandle) -> Self {
        let peer = Peer::of(&handle);
        // irmd answers with what was asked for; a cube this version does not know is refused before.
        let qos = handle.qos.and_then(|qos| Qos::try_from(qos).ok()).unwrap_or_default();
        Self { watched: OnceLock::new(), core, peer, qos, data: handle.data }
    }

    /// Sends one SDU: all of it or nothing, at once or as soon as the kernel has room.
    pub async fn send(&self, sdu: &[u8]) -> Result<(), FlowError> {
        self.sending(|| self.core.send(sdu, Wait::Never)).await
    }

    /// Receives one SDU; its length. One that does not fit `buffer` is lost and an error.
    pub async fn recv(&self, buffer: &mut [u8]) -> Result<usize, FlowError> {
        self.receiving(|| self.core.recv(buffer, Wait::Never)).await
    }

    /// Sends if the kernel has room now, else [`FlowError::WouldBlock`].
    pub fn try_send(&self, sdu: &[u8]) -> Result<(), FlowError> {
        self.at_once(self.core.send(sdu, Wait::Never))
    }

    /// Receives what is there now, else [`FlowError::WouldBlock`].
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<usize, FlowError> {
        self.at_once(self.core.recv(buffer, Wait::Never))
    }

    /// Sends `bytes` as SDUs of `sdu_size` bytes each, the last perhaps shorter, with few system calls; how many SDUs.
    /// Waits until all are sent; fewer only when an error stopped it after the first.
    pub async fn send_batch(&self, bytes: &[u8], sdu_size: usize) -> Result<usize, FlowError> {
        let mut sent = 0;
        loop {
            let rest = &bytes[(sent * sdu_size).min(bytes.len())..];
            if rest.is_empty() && sent > 0 {
                return Ok(sent);
            }
            match self.sending(|| self.core.send_some(rest, sdu_size, Wait::Never)).await {
                Ok(sdus) => sent += sdus,
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives all that is there, at least one SDU; how many. The kernel is asked to hand SDUs over together from
    /// the first call on, which makes a [`Self::recv`] after it slower.
    pub async fn recv_batch(&self, batch: &mut Batch) -> Result<usize, FlowError> {
        self.receiving(|| self.core.recv_some(batch, Wait::Never)).await
    }

    /// Ends the flow; returns once the daemon has been told. Dropping the flow does the same without waiting.
    pub async fn dealloc(self) {
        let told = self.core.release();
        // An error means that it was told already, or that nobody is there to be told.
        let _ = told.await;
    }

    /// Ends the flow under whoever uses it: calls that wait return [`FlowError::Gone`], those that come do too.
    pub fn end(&self) {
        drop(self.core.release());
        self.core.part();
    }

    /// The flow's id on this host, as `irm flow list` shows it. A restart of the daemons may change it.
    pub fn id(&self) -> FlowId {
        self.core.id()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What was asked of the flow.
    pub fn qos(&self) -> Qos {
        self.qos
    }

    /// What the peer sent along with its request or its answer. Not authenticated.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// What this end has carried.
    pub fn stats(&self) -> Counters {
        self.core.slot().read().into()
    }

    /// The longest SDU, bytes: over UDP the path's MTU without headers, nothing is fragmented.
    pub fn sdu_limit(&self) -> usize {
        self.core.sdu_limit()
    }

    /// Sends with `call`, at once or as soon as there is room. Only then is the socket watched for it: the kernel reports
    /// room after each SDU that has left.
    async fn sending<T>(&self, mut call: impl FnMut() -> Result<T, Stop>) -> Result<T, FlowError> {
        // A task that only sends must let others have their turn.
        tokio::task::coop::consume_budget().await;
        loop {
            match call() {
                Ok(done) => return Ok(done),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Closed) => return Err(FlowError::Gone(self.core.why_closed().await)),
                Err(Stop::WouldBlock) if self.core.closed() => {
                    return Err(FlowError::Gone(self.core.why_closed().await));
                }
                Err(Stop::WouldBlock) => {
                    let twin = handoff::watch_writable(self.core.borrow().try_clone_to_owned()?)?;
                    // An ICMP error makes tokio report "write closed" for ever, on a socket that is not.
                    if twin.ready(Interest::WRITABLE).await?.ready().is_write_closed() {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// Receives with `call` as soon as there is something.
    async fn receiving<T>(&self, mut call: impl FnMut() -> Result<T, Stop>) -> Result<T, FlowError> {
        let watched = self.watched()?;
        loop {
            // ERROR: the peer's port may be reported unreachable while we wait.
            let mut guard = watched.ready(Interest::READABLE | Interest::ERROR).await?;
            // Taken before the call: a socket closed in between must not be taken for an empty one.
            let ready = guard.ready();
            match call() {
                Ok(done) => return Ok(done),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Closed) => return Err(FlowError::Gone(self.core.why_closed().await)),
                // A shut-down datagram socket says EAGAIN for ever: tokio's own UdpSocket::recv spins on it.
                Err(Stop::WouldBlock) if ready.is_read_closed() && self.core.closed() => {
                    return Err(FlowError::Gone(self.core.why_closed().await));
                }
                Err(Stop::WouldBlock) => guard.clear_ready(),
            }
        }
    }

    fn at_once<T>(&self, done: Result<T, Stop>) -> Result<T, FlowError> {
        match done {
            Ok(done) => Ok(done),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::WouldBlock) if !self.core.closed() => Err(FlowError::WouldBlock),
            Err(Stop::WouldBlock | Stop::Closed) => {
                Err(self.core.note_closed().map_or(FlowError::WouldBlock, FlowError::Gone))
            }
        }
    }

    fn watched(&self) -> Result<&AsyncFd<Arc<OwnedFd>>, FlowError> {
        if let Some(watched) = self.watched.get() {
            return Ok(watched);
        }
        // Of two tasks that come here at once, one registers and the other finds EEXIST: it then takes the first's.
        match handoff::watch_shared(self.core.fd.clone()) {
            Ok(watched) => Ok(self.watched.get_or_init(|| watched)),
            Err(error) => self.watched.get().ok_or(FlowError::Io(error)),
        }
    }

    /// For the blocking face.
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.core.filtered()
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("id", &self.id()).field("peer", &self.peer).field("qos", &self.qos).finish()
    }
}

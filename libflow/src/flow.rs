//! A flow, for async programs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proto::v1::FlowHandle;
use proto::{Cube, FlowId, Qos};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::batch::Batch;
use crate::error::FlowError;
use crate::io::core::Core;
use crate::io::mux::Held;
use crate::io::sdu::{Stop, Wait};
use crate::peer::{Counters, EndReason, Identity, Peer};
use crate::stream::Stream;
use crate::{PathStats, StreamError};

/// The longest SDU of any carrier, bytes.
const LONGEST: usize = 65_535;
/// Messages that one batch takes over.
const BATCH: usize = 64;

/// One end of a flow: the kernel's socket, and what is known about it. Dropping it deallocates it.
///
/// All calls take `&self`: an `Arc<Flow>` may send in one task and receive in another. The waiting calls need a tokio
/// runtime; the first of them ties the flow to the runtime it is called in.
///
/// A raw flow is its socket: [`AsFd`] gives it, in blocking mode, to `poll`, `read` and `write`; what goes past these
/// methods is not counted, and the kernel, not the flow, says when it is over. Do not set it non-blocking: the daemon
/// shares it. Message and stream flows are encrypted on it: there it serves to watch, or to shut the flow down.
pub struct Flow {
    // Dropped before the descriptor it watches.
    watched: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    core: Arc<Core>,
    /// Message and stream flows: what they run over. None: the socket carries SDUs as they are.
    held: Option<Arc<Held>>,
    asking: bool,
    peer: Peer,
    qos: Qos,
    data: Vec<u8>,
}

impl Flow {
    /// A flow whose socket carries its SDUs as they are.
    pub(crate) fn delivered(core: Arc<Core>, handle: FlowHandle) -> Self {
        Self::over(core, None, handle)
    }

    pub(crate) fn over(core: Arc<Core>, held: Option<Arc<Held>>, handle: FlowHandle) -> Self {
        let peer = Peer::of(&handle);
        let qos = qos_of(&handle);
        Self { watched: OnceLock::new(), core, held, asking: false, peer, qos, data: handle.data }
    }

    /// This side asked for the flow.
    pub(crate) fn asked(self) -> Self {
        Self { asking: true, ..self }
    }

    /// Who the handshake showed to be at the other end.
    pub(crate) fn with_identity(mut self, identity: Identity) -> Self {
        self.peer.identity = Some(identity);
        self
    }

    /// Sends one SDU: all of it or nothing, at once or as soon as there is room. On a message or stream flow it is a message.
    pub async fn send(&self, sdu: &[u8]) -> Result<(), FlowError> {
        match &self.held {
            None => self.sending(|| self.core.send(sdu, Wait::Never)).await,
            Some(held) => held.send_message(Bytes::copy_from_slice(sdu)).await,
        }
    }

    /// Receives one SDU; its length. One that does not fit `buffer` is lost and an error.
    pub async fn recv(&self, buffer: &mut [u8]) -> Result<usize, FlowError> {
        match &self.held {
            None => self.receiving(|| self.core.recv(buffer, Wait::Never)).await,
            Some(held) => copied(&held.recv_message().await?, buffer),
        }
    }

    /// Sends if there is room now, else [`FlowError::WouldBlock`].
    pub fn try_send(&self, sdu: &[u8]) -> Result<(), FlowError> {
        match &self.held {
            None => self.at_once(self.core.send(sdu, Wait::Never)),
            Some(held) => held.try_send_message(Bytes::copy_from_slice(sdu)),
        }
    }

    /// Receives what is there now, else [`FlowError::WouldBlock`].
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<usize, FlowError> {
        match &self.held {
            None => self.at_once(self.core.recv(buffer, Wait::Never)),
            Some(held) => copied(&held.try_recv_message()?, buffer),
        }
    }

    /// Sends one message: [`Self::send`] for who has the bytes as [`Bytes`] already. At most [`Self::sdu_limit`] bytes.
    /// Between hosts messages may be lost, doubled and reordered, as SDUs are; on message and stream flows they are
    /// encrypted and authenticated.
    pub async fn send_message(&self, message: Bytes) -> Result<(), FlowError> {
        match &self.held {
            None => self.send(&message).await,
            Some(held) => held.send_message(message).await,
        }
    }

    /// Receives one message.
    pub async fn recv_message(&self) -> Result<Bytes, FlowError> {
        match &self.held {
            None => {
                let mut sdu = vec![0; LONGEST];
                let length = self.recv(&mut sdu).await?;
                sdu.truncate(length);
                Ok(sdu.into())
            }
            Some(held) => held.recv_message().await,
        }
    }

    /// Opens a stream; the peer's [`Self::accept_stream`] learns of it at once. Waits while as many are open as the peer
    /// allows.
    pub async fn open_stream(&self) -> Result<Stream, StreamError> {
        self.streams()?.open_stream().await
    }

    /// The next stream that the peer opened.
    pub async fn accept_stream(&self) -> Result<Stream, StreamError> {
        self.streams()?.accept_stream().await
    }

    /// The flow as one stream, for programs that need no more: the side that asked for the flow opens it, the other accepts.
    /// The flow lives as long as the stream.
    pub async fn into_stream(self) -> Result<Stream, StreamError> {
        match self.asking {
            true => self.open_stream().await,
            false => self.accept_stream().await,
        }
    }

    fn streams(&self) -> Result<&Arc<Held>, StreamError> {
        match (&self.held, self.qos.cube) {
            (Some(held), Cube::Stream) => Ok(held),
            (_, cube) => Err(StreamError::NoStreams(cube.as_str())),
        }
    }

    /// What a message or stream flow has seen of its path; `None` of raw flows, of which only the program could know.
    pub fn path(&self) -> Option<PathStats> {
        self.held.as_ref().map(|held| held.stats())
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
            let some = match &self.held {
                None => self.sending(|| self.core.send_some(rest, sdu_size, Wait::Never)).await,
                Some(_) => self.send(&rest[..rest.len().min(sdu_size)]).await.map(|()| 1),
            };
            match some {
                Ok(sdus) => sent += sdus,
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives all that is there, at least one SDU; how many. The kernel is asked to hand SDUs over together from
    /// the first call on, which makes a [`Self::recv`] after it slower.
    pub async fn recv_batch(&self, batch: &mut Batch) -> Result<usize, FlowError> {
        match &self.held {
            None => self.receiving(|| self.core.recv_some(batch, Wait::Never)).await,
            Some(held) => {
                batch.clear();
                batch.push(&held.recv_message().await?);
                while batch.len() < BATCH
                    && let Ok(more) = held.try_recv_message()
                {
                    batch.push(&more);
                }
                Ok(batch.len())
            }
        }
    }

    /// Ends the flow; returns once what was finished has been delivered (or cannot be) and the daemon has been told.
    /// Dropping the flow does the same without waiting; a program that ends right after that cuts it short.
    pub async fn dealloc(self) {
        if let Some(held) = &self.held {
            held.close().await;
        }
        let told = self.core.release();
        // An error means that it was told already, or that nobody is there to be told.
        let _ = told.await;
    }

    /// Ends the flow under whoever uses it: calls that wait return [`FlowError::Gone`], those that come do too.
    pub fn end(&self) {
        if let Some(held) = &self.held {
            held.abort();
        }
        drop(self.core.release());
        self.core.part();
    }

    /// Waits until the flow is over, whoever ended it; at once if it is. What came before may still be read.
    pub async fn ended(&self) -> EndReason {
        match &self.held {
            None => self.core.over().await,
            Some(held) => held.over().await,
        }
    }

    /// The flow's id on this host, as `irm flow list` shows it. A restart of the daemons may change it.
    pub fn id(&self) -> FlowId {
        self.core.id()
    }

    /// Who is at the other end, and where it is now: a flow that has moved to another path has another address there.
    pub fn peer(&self) -> Peer {
        let address = self.core.goes_to().map(|at| at.to_string());
        Peer { address: address.unwrap_or_else(|| self.peer.address.clone()), ..self.peer.clone() }
    }

    /// What was asked of the flow.
    pub fn qos(&self) -> Qos {
        self.qos
    }

    /// What the peer sent along with its request or its answer. On message and stream flows the handshake has confirmed it;
    /// on raw flows it is not authenticated.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// What this end has carried.
    pub fn stats(&self) -> Counters {
        self.core.slot().read().into()
    }

    /// The longest SDU or message, bytes: over UDP the path's MTU without headers, nothing is fragmented. It may change with
    /// the path.
    pub fn sdu_limit(&self) -> usize {
        self.held.as_ref().map_or_else(|| self.core.sdu_limit(), |held| held.message_limit())
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

    /// For the blocking face: what a message or stream flow runs over.
    pub(crate) fn held(&self) -> Option<&Arc<Held>> {
        self.held.as_ref()
    }
}

/// irmd answers with what was asked for; a cube this version does not know is refused before.
pub(crate) fn qos_of(handle: &FlowHandle) -> Qos {
    handle.qos.and_then(|qos| Qos::try_from(qos).ok()).unwrap_or_default()
}

/// A message into a buffer, as a receive from the kernel would have put it there.
fn copied(message: &[u8], buffer: &mut [u8]) -> Result<usize, FlowError> {
    let (len, room) = (message.len(), buffer.len());
    let into = buffer.get_mut(..len).ok_or(FlowError::Truncated { len, room })?;
    into.copy_from_slice(message);
    Ok(len)
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

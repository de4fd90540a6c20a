//! What message and stream flows run over, and how long it lives.
#![expect(clippy::disallowed_methods, reason = "io owns the timers")]

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use transport::{MessageError, Over, Stats, StreamError, local, quic};

use super::core::Core;
use super::{aside, park};
use crate::error::FlowError;
use crate::peer::EndReason;
use crate::stream::{RecvHalf, RecvStream, SendHalf, SendStream, Stream};

/// Streams and messages of one flow.
pub(crate) enum Mux {
    Quic(quic::Flow),
    Local(local::Flow),
}

/// A flow's [`Mux`] with its socket, shared by the flow and its streams. When the last of them is dropped, what was finished
/// is delivered, then the flow is deallocated.
pub(crate) struct Held {
    mux: Option<Arc<Mux>>,
    pub(crate) core: Arc<Core>,
    runtime: Handle,
}

impl Mux {
    async fn close(&self) {
        match self {
            Self::Quic(flow) => flow.close().await,
            Self::Local(flow) => flow.close().await,
        }
    }
}

impl Held {
    pub(crate) fn new(mux: Mux, core: Arc<Core>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { mux: Some(Arc::new(mux)), core, runtime })
    }

    fn mux(&self) -> &Mux {
        self.mux.as_ref().expect("taken by drop only")
    }

    pub(crate) async fn open_stream(self: &Arc<Self>) -> Result<Stream, StreamError> {
        let halves = match self.mux() {
            Mux::Quic(flow) => flow.open_stream().await.map(|(s, r)| (SendHalf::Quic(s), RecvHalf::Quic(r))),
            Mux::Local(flow) => flow.open_stream().await.map(|(s, r)| (SendHalf::Local(s), RecvHalf::Local(r))),
        };
        halves.map(|halves| self.stream(halves)).map_err(|error| self.explain(error))
    }

    pub(crate) async fn accept_stream(self: &Arc<Self>) -> Result<Stream, StreamError> {
        let halves = match self.mux() {
            Mux::Quic(flow) => flow.accept_stream().await.map(|(s, r)| (SendHalf::Quic(s), RecvHalf::Quic(r))),
            Mux::Local(flow) => flow.accept_stream().await.map(|(s, r)| (SendHalf::Local(s), RecvHalf::Local(r))),
        };
        halves.map(|halves| self.stream(halves)).map_err(|error| self.explain(error))
    }

    fn stream(self: &Arc<Self>, (send, recv): (SendHalf, RecvHalf)) -> Stream {
        Stream { send: SendStream::new(send, self.clone()), recv: RecvStream::new(recv, self.clone()) }
    }

    pub(crate) async fn send_message(&self, message: Bytes) -> Result<(), FlowError> {
        let done = match self.mux() {
            Mux::Quic(flow) => flow.send_message(message).await,
            Mux::Local(flow) => flow.send_message(message).await,
        };
        done.map_err(|error| self.failed(error))
    }

    pub(crate) fn try_send_message(&self, message: Bytes) -> Result<(), FlowError> {
        let done = match self.mux() {
            Mux::Quic(flow) => flow.try_send_message(message),
            Mux::Local(flow) => flow.try_send_message(message),
        };
        done.map_err(|error| self.failed(error))
    }

    pub(crate) async fn recv_message(&self) -> Result<Bytes, FlowError> {
        let done = match self.mux() {
            Mux::Quic(flow) => flow.recv_message().await,
            Mux::Local(flow) => flow.recv_message().await,
        };
        done.map_err(|error| self.failed(error))
    }

    pub(crate) fn try_recv_message(&self) -> Result<Bytes, FlowError> {
        let done = match self.mux() {
            Mux::Quic(flow) => flow.try_recv_message(),
            Mux::Local(flow) => flow.try_recv_message(),
        };
        done.map_err(|error| self.failed(error))
    }

    /// Waits until the flow is over.
    pub(crate) async fn over(&self) -> EndReason {
        let over = async {
            let over = match self.mux() {
                Mux::Quic(flow) => flow.closed().await,
                Mux::Local(flow) => flow.closed().await,
            };
            match over {
                // The daemon says why, in a moment.
                Over::SocketClosed => self.core.why_closed().await,
                over => self.why(&over),
            }
        };
        tokio::select! {
            biased;
            reason = self.core.over() => reason,
            reason = over => reason,
        }
    }

    pub(crate) fn message_limit(&self) -> usize {
        match self.mux() {
            Mux::Quic(flow) => flow.message_limit(),
            Mux::Local(flow) => flow.message_limit(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        match self.mux() {
            Mux::Quic(flow) => flow.stats(),
            Mux::Local(flow) => flow.stats(),
        }
    }

    /// What is made belongs to the flow's runtime.
    pub(crate) fn within_runtime<T>(&self, make: impl FnOnce() -> T) -> T {
        let _within = self.runtime.enter();
        make()
    }

    /// Waits for `work` on this thread, which is in no runtime: what it makes belongs to the flow's.
    pub(crate) fn park<T>(&self, work: impl Future<Output = T>) -> T {
        let _within = self.runtime.enter();
        park::wait(work)
    }

    /// Does `work` for a bounded time, also outside of a runtime; `None` when the time is over.
    pub(crate) async fn within<T>(&self, within: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
        let Some(within) = within else { return Some(work.await) };
        let over = {
            let _timers = self.runtime.enter();
            tokio::time::sleep(within)
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = over => None,
        }
    }

    /// Delivers what was finished, then ends.
    pub(crate) async fn close(&self) {
        self.mux().close().await;
    }

    /// Ends at once, under whoever uses it.
    pub(crate) fn abort(&self) {
        match self.mux() {
            Mux::Quic(flow) => flow.abort(),
            Mux::Local(flow) => flow.abort(),
        }
    }

    /// The transport knows that the socket was closed, the daemon why.
    pub(crate) fn explain(&self, error: StreamError) -> StreamError {
        match error {
            StreamError::Over(Over::SocketClosed) => StreamError::Over(match self.core.note_closed() {
                Some(reason) => Over::Ended(reason.to_string()),
                None => Over::SocketClosed,
            }),
            other => other,
        }
    }

    /// The same of an error that is wrapped.
    pub(crate) fn explain_io(&self, error: io::Error) -> io::Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>()) {
            Some(inner) => self.explain(inner.clone()).into(),
            None => error,
        }
    }

    fn failed(&self, error: MessageError) -> FlowError {
        match error {
            MessageError::Empty => FlowError::Empty,
            MessageError::TooLong { limit, len } => FlowError::TooLong { limit, len },
            MessageError::WouldBlock => FlowError::WouldBlock,
            MessageError::Over(over) => FlowError::Gone(self.why(&over)),
        }
    }

    fn why(&self, over: &Over) -> EndReason {
        match over {
            Over::Closed => EndReason::Deallocated,
            Over::PeerClosed | Over::Refused(_) => EndReason::PeerDeallocated,
            Over::TimedOut => EndReason::PeerTimedOut,
            _ => self.core.note_closed().unwrap_or(EndReason::Unknown),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (Some(mux), core) = (self.mux.take(), self.core.clone()) else { return };
        aside::detach(&self.runtime, async move {
            mux.close().await;
            drop(core);
        });
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("flow", &self.core.id()).finish_non_exhaustive()
    }
}

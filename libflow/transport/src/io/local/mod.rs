//! Flows within a host: kernel sockets, no cryptography.
#![expect(clippy::disallowed_methods, reason = "io reads the clock, and each flow has a task that ends with it")]

mod packet;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use self::shared::{Drained, Flushed, Shared, State};
pub use self::stream::{RecvHalf, SendHalf};
use crate::error::{MessageError, Over, StreamError};
use crate::io::watch;
use crate::machine::local::{Exchange, StreamId};
use crate::path::Path;
use crate::stats::Stats;

/// Whoever reads nothing for so long does not get what a closed flow still had to say.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// Until the kernel is asked again for what it ran out of.
const STARVED: Duration = Duration::from_millis(10);

/// One end of a flow within a host. Clones are the same flow; it is closed when its last clone and the last half of its
/// streams are dropped.
#[derive(Clone)]
pub struct Flow {
    handle: Arc<Handle>,
}

/// What the program holds, all together; the flow's task does not.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.with(|state| state.exchange.close());
    }
}

/// What became of a message that was to be sent.
enum Offered {
    Sent,
    /// The other side has no room: it will say when.
    NoRoom,
    /// The kernel has none.
    Full,
}

impl Flow {
    /// A flow on the socket of `path`, whose other end speaks the same; packets have at most `sdu_limit` bytes. Must be
    /// called in a tokio runtime, where a task of the flow's own then runs: what the other program says of one stream must
    /// be heard though this program waits for another, or for nothing.
    ///
    /// # Errors
    /// The runtime cannot watch the socket: no descriptors, or it is watched already.
    pub fn new(path: impl Path, sdu_limit: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(Box::new(path), sdu_limit)?);
        tokio::spawn(serve(shared.clone()));
        Ok(Self { handle: Arc::new(Handle { shared }) })
    }

    /// Opens a stream; the peer learns of it at once, also before the first byte. Waits while 1,024 streams that this side
    /// opened are not over.
    pub async fn open_stream(&self) -> Result<(SendHalf, RecvHalf), StreamError> {
        let shared = self.shared();
        tokio::task::coop::consume_budget().await;
        loop {
            let mut room = pin!(shared.waits.room.notified());
            room.as_mut().enable();
            let can = shared.lock().exchange.can_open()?;
            if can {
                let (near, far) = pair()?;
                let near = Arc::new(watch::both(near).map_err(|_| StreamError::NoDescriptor)?);
                let opened = shared.with(|state| {
                    let opened = state.exchange.open();
                    if let Ok(Some(id)) = opened {
                        state.opened(id, near.clone(), far);
                    }
                    opened
                })?;
                if let Some(id) = opened {
                    return Ok(self.halves(id, near));
                }
            }
            room.await;
        }
    }

    /// The next stream that the peer opened. Cancel-safe.
    ///
    /// # Errors
    /// [`StreamError::NoDescriptor`]: a stream came for which this program had no descriptor. The peer has been told; the
    /// flow goes on.
    pub async fn accept_stream(&self) -> Result<(SendHalf, RecvHalf), StreamError> {
        let shared = self.shared();
        let take = |state: &mut State| state.exchange.take().map(|id| id.map(|id| (id, state.untaken(id))));
        let (id, fd) = self.wait_for(&shared.waits.streams, Exchange::can_take, take).await?;
        // Between here and the end nothing waits: a stream that was taken is given.
        match fd.map(watch::both) {
            Some(Ok(near)) => {
                let near = Arc::new(near);
                shared.with(|state| state.taken(id, near.clone()));
                Ok(self.halves(id, near))
            }
            _ => {
                shared.with(|state| state.give_up(id));
                Err(StreamError::NoDescriptor)
            }
        }
    }

    /// Sends a message, as soon as there is room: unread ones of the peer's have half a mebibyte together.
    pub async fn send_message(&self, message: Bytes) -> Result<(), MessageError> {
        tokio::task::coop::consume_budget().await;
        loop {
            let mut room = pin!(self.shared().waits.room.notified());
            room.as_mut().enable();
            match self.offer(&message)? {
                Offered::Sent => return Ok(()),
                Offered::NoRoom => room.await,
                Offered::Full => self.shared().kernel_room(Flushed::Full).await,
            }
        }
    }

    /// Sends a message if there is room now, else [`MessageError::WouldBlock`].
    pub fn try_send_message(&self, message: Bytes) -> Result<(), MessageError> {
        match self.offer(&message)? {
            Offered::Sent => Ok(()),
            Offered::NoRoom | Offered::Full => Err(MessageError::WouldBlock),
        }
    }

    /// The oldest message that has come. Cancel-safe. None is lost: a peer waits for room.
    pub async fn recv_message(&self) -> Result<Bytes, MessageError> {
        tokio::task::coop::consume_budget().await;
        let read = |state: &mut State| state.exchange.read();
        self.wait_for(&self.shared().waits.messages, Exchange::can_read, read).await
    }

    /// The oldest message that is there now, else [`MessageError::WouldBlock`].
    pub fn try_recv_message(&self) -> Result<Bytes, MessageError> {
        let shared = self.shared();
        for _ in 0..2 {
            if let Some(message) = shared.with(|state| state.exchange.read())? {
                return Ok(message);
            }
            shared.drain(Exchange::can_read);
            shared.announce(&shared.lock().exchange);
        }
        Err(MessageError::WouldBlock)
    }

    /// The longest message, bytes.
    pub fn message_limit(&self) -> usize {
        self.shared().message_limit()
    }

    /// What this end has carried; datagrams are messages, bytes those of messages and streams.
    pub fn stats(&self) -> Stats {
        let tally = &self.shared().tally;
        Stats {
            datagrams_sent: tally.messages_sent.load(Ordering::Relaxed),
            datagrams_received: tally.messages_received.load(Ordering::Relaxed),
            bytes_sent: tally.bytes_sent.load(Ordering::Relaxed),
            bytes_received: tally.bytes_received.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }

    /// Ends the flow. What was written to streams and finished, and all messages, reach the peer, which then reads
    /// [`Over::PeerClosed`]; streams that were not finished end with that error there. Waits, for 5 s at most, until the
    /// kernel has it all.
    pub async fn close(&self) {
        let shared = self.shared();
        shared.with(|state| state.exchange.close());
        let said = async {
            loop {
                let mut room = pin!(shared.waits.room.notified());
                room.as_mut().enable();
                if shared.lock().exchange.front().is_none() {
                    return;
                }
                room.await;
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, said).await.is_err() {
            shared.with(|state| state.exchange.cut(Over::Closed));
        }
    }

    /// Ends the flow at once: what the kernel has not taken yet is lost, and streams end with an error.
    pub fn abort(&self) {
        let shared = self.shared();
        shared.with(|state| state.exchange.abort());
        if shared.flush() != Flushed::All {
            shared.with(|state| state.exchange.cut(Over::Closed));
        }
    }

    /// Waits until the flow is over, and says why.
    pub async fn closed(&self) -> Over {
        let shared = self.shared();
        loop {
            let mut over = pin!(shared.waits.over.notified());
            over.as_mut().enable();
            if let Some(why) = shared.lock().exchange.over() {
                return why.clone();
            }
            over.await;
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn halves(&self, id: StreamId, near: Arc<AsyncFd<OwnedFd>>) -> (SendHalf, RecvHalf) {
        (SendHalf::new(self.handle.clone(), id, near.clone()), RecvHalf::new(self.handle.clone(), id, near))
    }

    fn offer(&self, message: &[u8]) -> Result<Offered, MessageError> {
        let shared = self.shared();
        if message.is_empty() {
            return Err(MessageError::Empty);
        }
        if message.len() > shared.message_limit() {
            shared.path.send_failed();
            return Err(MessageError::TooLong { limit: shared.message_limit(), len: message.len() });
        }
        if !shared.lock().exchange.use_room(message.len())? {
            return Ok(Offered::NoRoom);
        }
        let Err(errno) = shared.send_message(message) else { return Ok(Offered::Sent) };
        shared.with(|state| state.exchange.unuse_room(message.len()));
        match errno {
            Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => Ok(Offered::Full),
            _ => {
                // The peer may have said why before its end was shut.
                shared.drain(|_| false);
                shared.announce(&shared.lock().exchange);
                let over = shared.with(|state| {
                    state.exchange.cut(Over::SocketClosed);
                    state.exchange.over().cloned()
                });
                Err(MessageError::Over(over.unwrap_or(Over::SocketClosed)))
            }
        }
    }

    /// Waits until `take` gives something. Reads the socket itself: what comes need not pass through the flow's task.
    async fn wait_for<T, E>(
        &self,
        notify: &Notify,
        there: fn(&Exchange) -> bool,
        mut take: impl FnMut(&mut State) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        let shared = self.shared();
        let mut try_take = || {
            let mut state = shared.lock();
            let taken = take(&mut state).transpose();
            // Others that wait may have been woken for what is left.
            shared.announce(&state.exchange);
            shared.after(state);
            taken
        };
        loop {
            if let Some(taken) = try_take() {
                return taken;
            }
            let mut notified = pin!(notify.notified());
            notified.as_mut().enable();
            // Between the two somebody may have come and announced.
            if let Some(taken) = try_take() {
                return taken;
            }
            tokio::select! {
                biased;
                guard = shared.watched.readable() => shared.readable(guard, there),
                () = notified => {}
            }
        }
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("socket", &self.shared().socket).finish_non_exhaustive()
    }
}

/// A stream's two ends. Who splices cannot say otherwise that it does not wait.
fn pair() -> Result<(OwnedFd, OwnedFd), StreamError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(|_| StreamError::NoDescriptor)
}

/// The flow's task: hears what the other side says for as long as the flow lives, and says what found no room. Each FIN has to
/// be heard though nobody waits for it: else they fill the socket, and the stream whose reader does wait is never told of its
/// end.
async fn serve(shared: Arc<Shared>) {
    tokio::select! {
        biased;
        () = hear(&shared) => {}
        () = say(&shared) => {}
    }
}

/// Never ends: what is heard last may leave something to say.
async fn hear(shared: &Shared) {
    while shared.lock().exchange.over().is_none() {
        let guard = shared.watched.readable().await;
        shared.readable(guard, |_| false);
    }
    std::future::pending().await
}

/// Ends when the flow is over and all is said, or could not be for too long.
async fn say(shared: &Shared) {
    let mut until = None;
    loop {
        let flushed = shared.flush();
        let over = shared.lock().exchange.over().is_some();
        match flushed {
            Flushed::All if over => return,
            Flushed::All => shared.waits.work.notified().await,
            _ if over => {
                let until = *until.get_or_insert_with(|| tokio::time::Instant::now() + CLOSE_WITHIN);
                if tokio::time::timeout_at(until, shared.kernel_room(flushed)).await.is_err() {
                    shared.with(|state| state.exchange.cut(Over::Closed));
                }
            }
            _ => tokio::select! {
                () = shared.kernel_room(flushed) => {}
                () = shared.waits.work.notified() => {}
            },
        }
    }
}

impl Shared {
    /// The socket may be readable: reads it.
    fn readable(
        &self,
        guard: io::Result<tokio::io::unix::AsyncFdReadyGuard<'_, Arc<OwnedFd>>>,
        enough: fn(&Exchange) -> bool,
    ) {
        match guard {
            // Who waited beside this one has read it.
            Ok(guard) if guard.ready().is_empty() => {}
            Ok(mut guard) => {
                if self.drain(enough) == Drained::Empty {
                    guard.clear_ready();
                }
                self.announce(&self.lock().exchange);
            }
            // The runtime is being shut down.
            Err(_) => self.with(|state| state.exchange.cut(Over::SocketClosed)),
        }
    }

    /// Waits until the kernel may have room again.
    async fn kernel_room(&self, flushed: Flushed) {
        match flushed {
            Flushed::All => {}
            Flushed::Starved => tokio::time::sleep(STARVED).await,
            Flushed::Full => match watch::writable(&self.socket) {
                Ok(twin) => drop(twin.writable().await),
                Err(_) => tokio::time::sleep(STARVED).await,
            },
        }
    }
}

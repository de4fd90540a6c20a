//! What a local flow's handles, its streams and its task share: the socket, the machine, who waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use rustix::io::Errno;
use rustix::net::Shutdown;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::packet;
use crate::error::{Over, Reason};
use crate::io::watch;
use crate::machine::local::{Exchange, Frame, Heard, MAX_CONTROL, MESSAGE, Saying, StreamId, Wake, Way};
use crate::path::Path;

/// Frames read before others have their turn.
const FRAMES_AT_ONCE: usize = 64;

thread_local! {
    /// What a packet is read into: an idle flow has no buffer of its own.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One side of a local flow.
pub(super) struct Shared {
    pub(super) path: Box<dyn Path>,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) watched: AsyncFd<Arc<OwnedFd>>,
    /// The longest packet, bytes.
    limit: usize,
    state: Mutex<State>,
    /// Frames must be heard in their order: who reads holds it, from the kernel's answer to the machine's.
    reading: Mutex<()>,
    pub(super) waits: Waits,
    pub(super) tally: Tally,
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct Waits {
    pub(super) messages: Notify,
    pub(super) streams: Notify,
    pub(super) room: Notify,
    pub(super) over: Notify,
    /// The task, for frames that found no room.
    pub(super) work: Notify,
}

/// Counted at this end, since the flow's start.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) messages_sent: AtomicU64,
    pub(super) messages_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) bytes_received: AtomicU64,
}

/// The machine, and the descriptors and wakers that go with its streams.
#[derive(Default)]
pub(super) struct State {
    pub(super) exchange: Exchange,
    /// This program's ends of the pairs.
    near: HashMap<StreamId, Near>,
    /// The other ends, until OPEN has been said.
    far: HashMap<StreamId, OwnedFd>,
    wakers: HashMap<(StreamId, Way), Waker>,
}

/// This program's end of a stream's pair.
enum Near {
    /// Not taken by the program.
    Waiting(OwnedFd),
    Taken(Arc<AsyncFd<OwnedFd>>),
}

/// How far a flow's socket was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    Empty,
    /// There may be more.
    More,
}

/// Why frames are left to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    All,
    /// The socket is full: the kernel tells when it is not.
    Full,
    /// The kernel is out of something, and will not tell when it is not.
    Starved,
}

impl Shared {
    pub(super) fn new(path: Box<dyn Path>, limit: usize) -> std::io::Result<Self> {
        let socket = path.socket();
        let watched = watch::readable(socket.clone())?;
        let (state, waits, tally) = (Mutex::default(), Waits::default(), Tally::default());
        Ok(Self { path, socket, watched, limit, state, reading: Mutex::default(), waits, tally })
    }

    /// The longest message, bytes.
    pub(super) fn message_limit(&self) -> usize {
        self.limit.saturating_sub(1)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the machine do something, and does what follows.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        self.after(state);
        result
    }

    /// Reads frames until `enough`, the socket is empty, or others should have their turn. The caller then sees to those who
    /// wait for messages and streams: [`Self::announce`].
    pub(super) fn drain(&self, enough: impl Fn(&Exchange) -> bool) -> Drained {
        let mut buffer = BUFFER.take();
        buffer.resize(buffer.len().max(self.limit.max(MAX_CONTROL)), 0);
        let drained = self.drain_into(&mut buffer[..self.limit.max(MAX_CONTROL)], enough);
        BUFFER.set(buffer);
        drained
    }

    fn drain_into(&self, buffer: &mut [u8], enough: impl Fn(&Exchange) -> bool) -> Drained {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut drained = Drained::More;
        for _ in 0..FRAMES_AT_ONCE {
            let got = packet::receive(self.socket.as_fd(), buffer);
            match got {
                // Told once, ahead of what the other side sent before it ended.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => {
                    drained = Drained::Empty;
                    break;
                }
                got => {
                    let mut state = self.lock();
                    match got {
                        Ok(received) if received.len > 0 => self.heard(&mut state, buffer, received),
                        Ok(_) if !watch::is_shut(&self.socket) => {
                            state.exchange.cut(Over::Protocol("an empty frame".to_owned()));
                        }
                        _ => {
                            self.path.closed();
                            state.exchange.cut(Over::SocketClosed);
                        }
                    }
                    let (over, enough) = (state.exchange.over().is_some(), enough(&state.exchange));
                    self.after(state);
                    if over || enough {
                        break;
                    }
                }
            }
        }
        drained
    }

    fn heard(&self, state: &mut State, buffer: &[u8], received: packet::Received) {
        let heard = match Heard::decode(&buffer[..received.len.min(buffer.len())]) {
            Ok(heard) if !received.cut => heard,
            Ok(_) => return state.exchange.cut(Over::Protocol("a frame longer than the flow carries".to_owned())),
            Err(garbage) => return state.exchange.cut(Over::Protocol(garbage.to_string())),
        };
        if let Heard::Message(message) = heard {
            self.path.received(1, message.len() as u64);
            self.tally.messages_received.fetch_add(1, Ordering::Relaxed);
            self.tally.bytes_received.fetch_add(message.len() as u64, Ordering::Relaxed);
        }
        let opens = state.exchange.hear(heard, received.attached);
        if let (true, Heard::Control(Frame::Open(id)), Some(fd)) = (opens, heard, received.descriptor) {
            state.near.insert(id, Near::Waiting(fd));
        }
    }

    /// Does what the machine wants done.
    pub(super) fn after(&self, mut state: MutexGuard<'_, State>) {
        if state.exchange.front().is_some() && self.flush_locked(&mut state) != Flushed::All {
            self.waits.work.notify_one();
        }
        self.wake(state);
    }

    /// Wakes one who waits for a message and one who waits for a stream, where there are some.
    pub(super) fn announce(&self, exchange: &Exchange) {
        if exchange.can_read() {
            self.waits.messages.notify_one();
        }
        if exchange.can_take() {
            self.waits.streams.notify_one();
        }
    }

    /// Says what is to be said, as far as there is room.
    pub(super) fn flush(&self) -> Flushed {
        let mut state = self.lock();
        let flushed = self.flush_locked(&mut state);
        self.wake(state);
        flushed
    }

    fn flush_locked(&self, state: &mut State) -> Flushed {
        while let Some(saying) = state.exchange.front() {
            match saying {
                Saying::Frame(frame) => match self.say(state, frame) {
                    Ok(()) => {}
                    Err(Errno::AGAIN) => return Flushed::Full,
                    Err(Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM) => return Flushed::Starved,
                    // The socket was shut down: why, its other direction tells whoever reads it.
                    Err(_) if state.exchange.over().is_none() => return Flushed::Starved,
                    Err(_) => {}
                },
                Saying::Shut(id, way) => state.shut(id, way),
                Saying::Forget(id) => state.forget(id),
                Saying::End => {
                    state.shut_all();
                    let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
                }
            }
            state.exchange.said();
        }
        Flushed::All
    }

    fn say(&self, state: &mut State, frame: Frame) -> Result<(), Errno> {
        let mut bytes = [0; MAX_CONTROL];
        let len = frame.encode(&mut bytes);
        let far = match frame {
            Frame::Open(id) => state.far.get(&id).map(|far| (id, far.as_fd())),
            _ => None,
        };
        packet::send(&self.socket, [&bytes[..len], &[]], far.map(|(_, fd)| fd))?;
        if let Some((id, _)) = far {
            state.far.remove(&id);
        }
        Ok(())
    }

    /// Sends a message whose room has been used.
    pub(super) fn send_message(&self, message: &[u8]) -> Result<(), Errno> {
        packet::send(&self.socket, [&[MESSAGE], message], None)?;
        self.path.sent(1, message.len() as u64);
        self.tally.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.tally.bytes_sent.fetch_add(message.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// So many bytes of a stream were written.
    pub(super) fn wrote(&self, bytes: usize) {
        self.path.sent(0, bytes as u64);
        self.tally.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes of a stream were read.
    pub(super) fn read(&self, bytes: usize) {
        self.path.received(0, bytes as u64);
        self.tally.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wakes = state.exchange.take_wakes();
        if wakes.is_empty() {
            return;
        }
        let mut wakers = Vec::new();
        let (mut room, mut all) = (false, false);
        for wake in wakes {
            match wake {
                Wake::Half(id, way) => wakers.extend(state.wakers.remove(&(id, way))),
                Wake::Room => room = true,
                Wake::All => all = true,
            }
        }
        if all {
            wakers.extend(state.wakers.drain().map(|(_, waker)| waker));
        }
        drop(state);
        if room || all {
            self.waits.room.notify_waiters();
        }
        if all {
            self.waits.messages.notify_waiters();
            self.waits.streams.notify_waiters();
            self.waits.over.notify_waiters();
            self.waits.work.notify_one();
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// A stream of one's own: its two ends.
    pub(super) fn opened(&mut self, id: StreamId, near: Arc<AsyncFd<OwnedFd>>, far: OwnedFd) {
        self.near.insert(id, Near::Taken(near));
        self.far.insert(id, far);
    }

    /// The descriptor of a stream that the program takes.
    pub(super) fn untaken(&mut self, id: StreamId) -> Option<OwnedFd> {
        match self.near.remove(&id)? {
            Near::Waiting(fd) => Some(fd),
            Near::Taken(_) => None,
        }
    }

    /// The program took the stream.
    pub(super) fn taken(&mut self, id: StreamId, near: Arc<AsyncFd<OwnedFd>>) {
        if self.exchange.is_under_way(id) {
            self.near.insert(id, Near::Taken(near));
        }
    }

    /// Has a half's task woken when there is something new about it.
    pub(super) fn wait(&mut self, id: StreamId, way: Way, context: &Context<'_>) {
        self.wakers.insert((id, way), context.waker().clone());
    }

    /// The program dropped a half.
    pub(super) fn release(&mut self, id: StreamId, way: Way) {
        self.wakers.remove(&(id, way));
        self.exchange.release(id);
    }

    /// The program took a stream that it cannot use.
    pub(super) fn give_up(&mut self, id: StreamId) {
        self.exchange.reset(id, Reason(0));
        self.exchange.stop(id, Reason(0));
        self.exchange.release(id);
        self.exchange.release(id);
    }

    fn shut(&self, id: StreamId, way: Way) {
        let how = match way {
            Way::Send => Shutdown::Write,
            Way::Recv => Shutdown::Read,
        };
        // It may be shut already.
        let _ = match self.near.get(&id) {
            Some(Near::Waiting(fd)) => rustix::net::shutdown(fd, how),
            Some(Near::Taken(fd)) => rustix::net::shutdown(fd.get_ref(), how),
            None => Ok(()),
        };
    }

    fn shut_all(&mut self) {
        for near in self.near.values() {
            let _ = match near {
                Near::Waiting(fd) => rustix::net::shutdown(fd, Shutdown::Both),
                Near::Taken(fd) => rustix::net::shutdown(fd.get_ref(), Shutdown::Both),
            };
        }
        // What the program has not taken it can still read.
        self.near.retain(|_, near| matches!(near, Near::Waiting(_)));
        self.far.clear();
    }

    fn forget(&mut self, id: StreamId) {
        if matches!(self.near.get(&id), Some(Near::Taken(_))) {
            self.near.remove(&id);
        }
    }
}

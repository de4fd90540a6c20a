//! A flow, blocking: no runtime, and one system call per SDU of a raw flow.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use proto::{FlowId, Qos};
use rustix::event::PollFlags;

use super::Stream;
use crate::io::mux::Held;
use crate::io::park;
use crate::io::sdu::{Stop, Wait};
use crate::io::timer::Timer;
use crate::{Batch, Counters, FlowError, PathStats, Peer, StreamError};

/// [`crate::Flow`] without a runtime. Dropping it deallocates it.
#[derive(Debug)]
pub struct Flow(crate::Flow);

impl From<crate::Flow> for Flow {
    fn from(flow: crate::Flow) -> Self {
        Self(flow)
    }
}

impl From<Flow> for crate::Flow {
    fn from(flow: Flow) -> Self {
        flow.0
    }
}

impl Flow {
    /// Sends one SDU, waiting for room.
    pub fn send(&self, sdu: &[u8]) -> Result<(), FlowError> {
        self.sending(sdu, None)
    }

    /// The same, for a bounded time.
    pub fn send_within(&self, sdu: &[u8], within: Duration) -> Result<(), FlowError> {
        self.sending(sdu, Some(within))
    }

    fn sending(&self, sdu: &[u8], within: Option<Duration>) -> Result<(), FlowError> {
        match self.0.held() {
            None => self.block(PollFlags::OUT, within, |wait| self.0.core().send(sdu, wait)),
            Some(held) => park_within(held, within, self.0.send(sdu)),
        }
    }

    /// Receives one SDU, waiting for it; its length.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<usize, FlowError> {
        self.receiving(buffer, None)
    }

    /// The same, for a bounded time.
    pub fn recv_within(&self, buffer: &mut [u8], within: Duration) -> Result<usize, FlowError> {
        self.receiving(buffer, Some(within))
    }

    fn receiving(&self, buffer: &mut [u8], within: Option<Duration>) -> Result<usize, FlowError> {
        match self.0.held() {
            None => self.block(PollFlags::IN, within, |wait| self.0.core().recv(buffer, wait)),
            Some(held) => park_within(held, within, self.0.recv(buffer)),
        }
    }

    /// See [`crate::Flow::try_send`].
    pub fn try_send(&self, sdu: &[u8]) -> Result<(), FlowError> {
        self.0.try_send(sdu)
    }

    /// See [`crate::Flow::try_recv`].
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<usize, FlowError> {
        self.0.try_recv(buffer)
    }

    /// See [`crate::Flow::send_batch`].
    pub fn send_batch(&self, bytes: &[u8], sdu_size: usize) -> Result<usize, FlowError> {
        if let Some(held) = self.0.held() {
            return held.park(self.0.send_batch(bytes, sdu_size));
        }
        let mut sent = 0;
        loop {
            let rest = &bytes[(sent * sdu_size).min(bytes.len())..];
            if rest.is_empty() && sent > 0 {
                return Ok(sent);
            }
            match self.block(PollFlags::OUT, None, |wait| self.0.core().send_some(rest, sdu_size, wait)) {
                Ok(sdus) => sent += sdus,
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
        }
    }

    /// See [`crate::Flow::recv_batch`].
    pub fn recv_batch(&self, batch: &mut Batch) -> Result<usize, FlowError> {
        self.receiving_batch(batch, None)
    }

    /// The same, for a bounded time.
    pub fn recv_batch_within(&self, batch: &mut Batch, within: Duration) -> Result<usize, FlowError> {
        self.receiving_batch(batch, Some(within))
    }

    fn receiving_batch(&self, batch: &mut Batch, within: Option<Duration>) -> Result<usize, FlowError> {
        match self.0.held() {
            None => self.block(PollFlags::IN, within, |wait| self.0.core().recv_some(batch, wait)),
            Some(held) => park_within(held, within, self.0.recv_batch(batch)),
        }
    }

    /// See [`crate::Flow::open_stream`].
    pub fn open_stream(&self) -> Result<Stream, StreamError> {
        self.parked(self.0.open_stream()).map(Stream::from)
    }

    /// See [`crate::Flow::accept_stream`].
    pub fn accept_stream(&self) -> Result<Stream, StreamError> {
        self.parked(self.0.accept_stream()).map(Stream::from)
    }

    /// The same, for a bounded time.
    pub fn accept_stream_within(&self, within: Duration) -> Result<Option<Stream>, StreamError> {
        let Some(held) = self.0.held() else { return self.accept_stream().map(Some) };
        let accepted = held.park(held.within(Some(within), self.0.accept_stream()));
        accepted.transpose().map(|stream| stream.map(Stream::from))
    }

    /// See [`crate::Flow::into_stream`].
    pub fn into_stream(self) -> Result<Stream, StreamError> {
        match self.0.held().cloned() {
            Some(held) => held.park(self.0.into_stream()),
            None => park::wait(self.0.into_stream()),
        }
        .map(Stream::from)
    }

    /// See [`crate::Flow::path`].
    pub fn path(&self) -> Option<PathStats> {
        self.0.path()
    }

    /// See [`crate::Flow::dealloc`].
    pub fn dealloc(self) {
        match self.0.held().cloned() {
            Some(held) => held.park(self.0.dealloc()),
            None => park::wait(self.0.dealloc()),
        }
    }

    fn parked<T>(&self, work: impl Future<Output = T>) -> T {
        match self.0.held() {
            Some(held) => held.park(work),
            None => park::wait(work),
        }
    }

    /// See [`crate::Flow::end`].
    pub fn end(&self) {
        self.0.end();
    }

    /// See [`crate::Flow::id`].
    pub fn id(&self) -> FlowId {
        self.0.id()
    }

    /// Who is at the other end, and where it is now.
    pub fn peer(&self) -> Peer {
        self.0.peer()
    }

    /// What was asked of the flow.
    pub fn qos(&self) -> Qos {
        self.0.qos()
    }

    /// See [`crate::Flow::data`].
    pub fn data(&self) -> &[u8] {
        self.0.data()
    }

    /// What this end has carried.
    pub fn stats(&self) -> Counters {
        self.0.stats()
    }

    /// See [`crate::Flow::sdu_limit`].
    pub fn sdu_limit(&self) -> usize {
        self.0.sdu_limit()
    }

    /// Without a deadline the kernel waits, in the call itself; with one, `poll` waits before it.
    fn block<T>(
        &self,
        what: PollFlags,
        within: Option<Duration>,
        mut call: impl FnMut(Wait) -> Result<T, Stop>,
    ) -> Result<T, FlowError> {
        let core = self.0.core();
        let timer = within.map(Timer::start);
        loop {
            let wait = if timer.is_some() { Wait::Never } else { Wait::Kernel };
            match call(wait) {
                Ok(done) => return Ok(done),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Closed) => return Err(FlowError::Gone(park::wait(core.why_closed()))),
                Err(Stop::WouldBlock) => {}
            }
            if core.closed() {
                // What came before the end is read first.
                return match call(Wait::Never) {
                    Ok(done) => Ok(done),
                    Err(Stop::Error(error)) => Err(error),
                    Err(_) => Err(FlowError::Gone(park::wait(core.why_closed()))),
                };
            }
            let left = timer.as_ref().map(Timer::left);
            if !core.poll(what | PollFlags::RDHUP, left)? {
                return Err(FlowError::TimedOut(within.unwrap_or_default()));
            }
        }
    }
}

/// What a message or stream flow does in its runtime, waited for here.
fn park_within<T>(
    held: &Held,
    within: Option<Duration>,
    work: impl Future<Output = Result<T, FlowError>>,
) -> Result<T, FlowError> {
    let done = held.park(held.within(within, work));
    done.unwrap_or_else(|| Err(FlowError::TimedOut(within.unwrap_or_default())))
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! One side of a local flow: its streams, its messages, what is to be said.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::frame::{Frame, StreamId};
use super::half::{LastWord, Receiving, RecvEvent, SendEvent, Sending};
use super::room::{Allowance, Budget, cost};
use super::{MESSAGE_WINDOW, OPEN_STREAMS};
use crate::error::{MessageError, Over, Reason, StreamError};

/// A direction of a stream, from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Send,
    Recv,
}

/// What came beside a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    Nothing,
    /// One descriptor, of a connected SOCK_STREAM socket of the kernel's own family.
    Stream,
    /// There was one, and no number was free for it in this program.
    Lost,
    /// Something else, or more than one.
    Unfit,
}

/// What is to be done, in this order: what waits for room in the socket holds up what comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    Frame(Frame),
    /// Shut a direction of the stream's pair down.
    Shut(StreamId, Way),
    /// Both directions are over: the stream's descriptor is needed for nothing but the program's own reads.
    Forget(StreamId),
    /// The flow is over: shut all its sockets down.
    End,
}

/// Who has something new to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Half(StreamId, Way),
    /// There may be room for messages and streams.
    Room,
    /// The flow is over: everybody.
    All,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    /// The program has the halves, or (accepting side) had them.
    pub(super) taken: bool,
    /// The program's halves that are not dropped.
    pub(super) held: u8,
    pub(super) settled: bool,
}

/// One side of a local flow.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    pub(super) streams: HashMap<StreamId, Stream>,
    /// Streams of the other side that the program has not taken.
    pub(super) untaken: VecDeque<StreamId>,
    /// OPENs whose descriptor did not arrive and that the program has not been told of.
    pub(super) lost: u64,
    pub(super) opened: Budget,
    pub(super) heard_opened: Allowance,
    pub(super) unread: VecDeque<Bytes>,
    pub(super) sent: Budget,
    pub(super) heard_messages: Allowance,
    pub(super) room_due: bool,
    pub(super) saying: VecDeque<Saying>,
    pub(super) wakes: Vec<Wake>,
    pub(super) over: Option<Over>,
}

impl Exchange {
    /// Why the flow is over.
    pub(crate) fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }

    /// Opens a stream; `None`: as many are open as may be.
    pub(crate) fn open(&mut self) -> Result<Option<StreamId>, StreamError> {
        self.check().map_err(StreamError::Over)?;
        let id = StreamId { ours: true, number: self.opened.used() };
        if !self.opened.take(1, OPEN_STREAMS) {
            return Ok(None);
        }
        self.streams.insert(id, Stream::new(true));
        self.saying.push_back(Saying::Frame(Frame::Open(id)));
        Ok(Some(id))
    }

    /// The next stream that the other side opened; `None`: there is none now. Those that came before the flow's end are
    /// given out after it, too.
    pub(crate) fn take(&mut self) -> Result<Option<StreamId>, StreamError> {
        if let Some(id) = self.untaken.pop_front() {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.taken = true;
                stream.held = 2;
            }
            self.settle(id);
            return Ok(Some(id));
        }
        if self.lost > 0 {
            self.lost -= 1;
            return Err(StreamError::NoDescriptor);
        }
        self.check().map_err(StreamError::Over).map(|()| None)
    }

    /// Whether [`Self::take`] has something to give.
    pub(crate) fn can_take(&self) -> bool {
        !self.untaken.is_empty() || self.lost > 0
    }

    /// Whether [`Self::open`] would.
    pub(crate) fn can_open(&self) -> Result<bool, StreamError> {
        self.check().map_err(StreamError::Over)?;
        Ok(self.opened.has(1, OPEN_STREAMS))
    }

    /// Whether the stream's pair may still have to be shut down: one direction or both are not over.
    pub(crate) fn is_under_way(&self, id: StreamId) -> bool {
        self.over.is_none() && self.streams.get(&id).is_some_and(|stream| !stream.settled)
    }

    /// The writing end's state.
    pub(crate) fn sending(&self, id: StreamId) -> Sending {
        self.streams.get(&id).map_or(Sending::Finished, |stream| stream.sending)
    }

    /// The reading end's state.
    pub(crate) fn receiving(&self, id: StreamId) -> Receiving {
        self.streams.get(&id).map_or(Receiving::Done, |stream| stream.receiving)
    }

    /// All has been written.
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        match self.sending(id) {
            Sending::Open => {}
            Sending::Stopped(reason) => return Err(StreamError::Stopped(reason)),
            Sending::Refused => return Err(StreamError::PeerNoDescriptor),
            Sending::Finishing | Sending::Finished | Sending::Reset => return Err(StreamError::Finished),
        }
        self.check().map_err(StreamError::Over)?;
        self.send_event(id, SendEvent::Finish);
        Ok(())
    }

    /// What was written may be incomplete. Nothing happens to a half that is over.
    pub(crate) fn reset(&mut self, id: StreamId, reason: Reason) {
        self.send_event(id, SendEvent::Reset(reason));
    }

    /// No more will be read. Nothing happens to a half that is over.
    pub(crate) fn stop(&mut self, id: StreamId, reason: Reason) {
        if self.receiving(id) == Receiving::Open && self.over.is_none() {
            self.saying.push_back(Saying::Frame(Frame::Stop(id, reason)));
            self.saying.push_back(Saying::Shut(id, Way::Recv));
        }
        // STOP follows from no state that it could not.
        let _ = self.recv_event(id, RecvEvent::Stop);
    }

    /// The program dropped a half.
    pub(crate) fn release(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.held = stream.held.saturating_sub(1);
        }
        self.remove_spent(id);
    }

    /// Whether a message may be sent now; if so its room is used.
    pub(crate) fn use_room(&mut self, len: usize) -> Result<bool, MessageError> {
        self.check().map_err(MessageError::Over)?;
        // Frames that wait for the kernel's room come first.
        Ok(self.saying.is_empty() && self.sent.take(cost(len), MESSAGE_WINDOW))
    }

    /// A message whose room was used was not sent.
    pub(crate) fn unuse_room(&mut self, len: usize) {
        self.sent.untake(cost(len));
    }

    /// The oldest message; `None`: there is none now. Those that came before the flow's end are given out after it, too.
    pub(crate) fn read(&mut self) -> Result<Option<Bytes>, MessageError> {
        if let Some(message) = self.unread.pop_front() {
            self.room_due |= self.heard_messages.give_back(cost(message.len()), MESSAGE_WINDOW);
            return Ok(Some(message));
        }
        self.check().map_err(MessageError::Over).map(|()| None)
    }

    /// Whether [`Self::read`] has something to give.
    pub(crate) fn can_read(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The program ends the flow: what was said before goes out first.
    pub(crate) fn close(&mut self) {
        if self.end(Over::Closed) {
            self.saying.push_back(Saying::Frame(Frame::Close));
            self.saying.push_back(Saying::End);
        }
    }

    /// The program ends the flow: of what was to be said before, nothing goes out.
    pub(crate) fn abort(&mut self) {
        self.end(Over::Closed);
        self.saying.clear();
        self.saying.extend([Saying::Frame(Frame::Close), Saying::End]);
    }

    /// Nothing more can be said.
    pub(crate) fn cut(&mut self, why: Over) {
        self.end(why);
        self.saying.clear();
        self.saying.push_back(Saying::End);
    }

    /// What is to be done next; once it is done, [`Self::said`].
    pub(crate) fn front(&self) -> Option<Saying> {
        if self.room_due && self.over.is_none() {
            return Some(Saying::Frame(self.room()));
        }
        self.saying.front().copied()
    }

    /// What [`Self::front`] gave is done.
    pub(crate) fn said(&mut self) {
        if self.room_due && self.over.is_none() {
            self.room_due = false;
            self.heard_messages.tell();
            self.heard_opened.tell();
            return;
        }
        if let Some(Saying::Frame(Frame::Fin(id))) = self.saying.pop_front() {
            self.send_event(id, SendEvent::FinSaid);
            self.wakes.push(Wake::Half(id, Way::Send));
        }
        if self.saying.is_empty() {
            self.wakes.push(Wake::Room);
        }
    }

    /// Who is to be woken.
    pub(crate) fn take_wakes(&mut self) -> Vec<Wake> {
        std::mem::take(&mut self.wakes)
    }

    /// Streams that it knows of.
    #[cfg(test)]
    pub(super) fn streams_held(&self) -> usize {
        self.streams.len()
    }

    /// What messages may cost and how many streams be opened before the other side says more.
    #[cfg(test)]
    pub(super) fn room_left(&self) -> (u64, u64) {
        (self.sent.left(MESSAGE_WINDOW), self.opened.left(OPEN_STREAMS))
    }

    /// Whether what the other side said takes no more room than it may, where the program holds so many streams.
    pub(super) fn is_within_bounds(&self, held: usize) -> bool {
        let bound = 2 * OPEN_STREAMS as usize + held;
        let unread: u64 = self.unread.iter().map(|message| cost(message.len())).sum();
        self.streams.len() <= bound && self.saying.len() <= 8 * bound && unread <= MESSAGE_WINDOW
    }

    pub(super) fn check(&self) -> Result<(), Over> {
        self.over.clone().map_or(Ok(()), Err)
    }

    /// False: it was over before. The first reason stands.
    fn end(&mut self, why: Over) -> bool {
        let first = self.over.is_none();
        if first {
            self.over = Some(why);
            self.wakes.push(Wake::All);
        }
        first
    }

    fn room(&self) -> Frame {
        Frame::Room {
            messages: self.heard_messages.limit(MESSAGE_WINDOW),
            streams: self.heard_opened.limit(OPEN_STREAMS),
        }
    }

    pub(super) fn send_event(&mut self, id: StreamId, event: SendEvent) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let before = stream.sending;
        let (state, word) = before.on(event);
        stream.sending = state;
        if self.over.is_none() {
            match word {
                Some(LastWord::Fin) => self.saying.push_back(Saying::Frame(Frame::Fin(id))),
                Some(LastWord::Reset(reason)) => self.saying.push_back(Saying::Frame(Frame::Reset(id, reason))),
                None => {}
            }
            if word.is_some() {
                self.saying.push_back(Saying::Shut(id, Way::Send));
            }
        }
        if before != state {
            self.wakes.push(Wake::Half(id, Way::Send));
        }
        self.settle(id);
    }

    pub(super) fn recv_event(&mut self, id: StreamId, event: RecvEvent) -> Result<(), &'static str> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.receiving = stream.receiving.on(event).ok_or("two last words about one stream")?;
        self.wakes.push(Wake::Half(id, Way::Recv));
        self.settle(id);
        Ok(())
    }

    /// Gives a stream's room back once it is over both ways and the program has seen it.
    fn settle(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.taken && !stream.settled && stream.sending.is_over() && stream.receiving.is_over() {
            stream.settled = true;
            self.saying.push_back(Saying::Forget(id));
            if !id.ours {
                self.room_due |= self.heard_opened.give_back(1, OPEN_STREAMS);
            }
        }
        self.remove_spent(id);
    }

    fn remove_spent(&mut self, id: StreamId) {
        let over = self.over.is_some();
        if self.streams.get(&id).is_some_and(|it| it.taken && it.held == 0 && (it.settled || over)) {
            self.streams.remove(&id);
        }
    }
}

impl Stream {
    pub(super) fn new(ours: bool) -> Self {
        let held = if ours { 2 } else { 0 };
        Self { sending: Sending::Open, receiving: Receiving::Open, taken: ours, held, settled: false }
    }
}

//! What the other side says, and what of it is nonsense.

use bytes::Bytes;

use super::exchange::{Attached, Exchange, Saying, Stream, Wake};
use super::frame::{Frame, Heard, StreamId};
use super::half::{RecvEvent, SendEvent};
use super::room::cost;
use super::{MESSAGE_WINDOW, OPEN_STREAMS};
use crate::error::Over;

impl Exchange {
    /// A frame came. True: the descriptor beside it belongs to the stream that it opens.
    pub(crate) fn hear(&mut self, heard: Heard<'_>, attached: Attached) -> bool {
        if self.over.is_some() {
            return false;
        }
        let done = match (heard, attached) {
            (Heard::Control(Frame::Open(id)), attached) => self.hear_open(id, attached),
            (_, Attached::Stream | Attached::Lost | Attached::Unfit) => Err("a descriptor where none belongs"),
            (Heard::Message(bytes), _) => self.hear_message(bytes).map(|()| false),
            (Heard::Control(frame), _) => self.hear_control(frame).map(|()| false),
        };
        done.unwrap_or_else(|words| {
            self.cut(Over::Protocol(words.to_owned()));
            false
        })
    }

    fn hear_open(&mut self, id: StreamId, attached: Attached) -> Result<bool, &'static str> {
        if id.ours || id.number != self.heard_opened.used() {
            return Err("a stream out of turn");
        }
        let keep = match attached {
            Attached::Nothing => return Err("a stream without a descriptor"),
            Attached::Unfit => return Err("a stream with a descriptor that is no stream's"),
            Attached::Stream => true,
            Attached::Lost => false,
        };
        if !self.heard_opened.take(1, OPEN_STREAMS) {
            return Err("more streams than there was room for");
        }
        self.room_due |= self.heard_opened.is_short(OPEN_STREAMS);
        if keep {
            self.streams.insert(id, Stream::new(false));
            self.untaken.push_back(id);
        } else {
            self.lost += 1;
            self.saying.push_back(Saying::Frame(Frame::Refused(id)));
            self.room_due |= self.heard_opened.give_back(1, OPEN_STREAMS);
        }
        Ok(keep)
    }

    fn hear_message(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if !self.heard_messages.take(cost(bytes.len()), MESSAGE_WINDOW) {
            return Err("more messages than there was room for");
        }
        self.unread.push_back(Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn hear_control(&mut self, frame: Frame) -> Result<(), &'static str> {
        match frame {
            // Its descriptor was judged before.
            Frame::Open(_) => Ok(()),
            Frame::Fin(id) => self.known(id)?.map_or(Ok(()), |id| self.recv_event(id, RecvEvent::FinHeard)),
            Frame::Reset(id, reason) => {
                self.known(id)?.map_or(Ok(()), |id| self.recv_event(id, RecvEvent::ResetHeard(reason)))
            }
            Frame::Stop(id, reason) => {
                if let Some(id) = self.known(id)? {
                    self.send_event(id, SendEvent::StopHeard(reason));
                }
                Ok(())
            }
            Frame::Refused(id) if !id.ours => Err("the refusal of a stream that it opened"),
            Frame::Refused(id) => {
                if let Some(id) = self.known(id)? {
                    self.send_event(id, SendEvent::Refused);
                    self.recv_event(id, RecvEvent::Refused)?;
                }
                Ok(())
            }
            Frame::Room { messages, streams } => self.hear_room(messages, streams),
            Frame::Close => {
                self.cut(Over::PeerClosed);
                Ok(())
            }
        }
    }

    fn hear_room(&mut self, messages: u64, streams: u64) -> Result<(), &'static str> {
        if !self.sent.raise(messages, MESSAGE_WINDOW) || !self.opened.raise(streams, OPEN_STREAMS) {
            return Err("less room than before");
        }
        self.wakes.push(Wake::Room);
        Ok(())
    }

    /// `None`: it was over before this was said, or refused.
    fn known(&self, id: StreamId) -> Result<Option<StreamId>, &'static str> {
        let opened = if id.ours { self.opened.used() } else { self.heard_opened.used() };
        if id.number >= opened {
            return Err("a word about a stream that was never opened");
        }
        Ok(Some(id).filter(|id| self.streams.contains_key(id)))
    }
}

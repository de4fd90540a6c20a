//! What the other end says on a track.

use std::time::Instant;

use super::Stripe;
use crate::machine::{Broken, State, TrackId};
use crate::said::frame::Frame;

impl Stripe {
    /// A frame; how many bytes of a chunk follow it.
    pub(super) fn hear(&mut self, now: Instant, track: TrackId, frame: Frame) -> Result<usize, Broken> {
        match frame {
            Frame::Data { offset, size } => {
                if offset + u64::from(size) > self.limit() {
                    return Err(Broken(format!(
                        "bytes up to {} came, the limit is {}",
                        offset + u64::from(size),
                        self.limit()
                    )));
                }
                if self.end.is_some_and(|end| offset + u64::from(size) > end) {
                    return Err(Broken("bytes came from behind the stream's end".to_owned()));
                }
                self.furthest = self.furthest.max(offset + u64::from(size));
                if let Some(lane) = self.lanes.get_mut(&track) {
                    lane.coming = Some((offset, size as usize));
                }
                return Ok(size as usize);
            }
            Frame::End { offset } => {
                let short = offset < self.furthest || self.end.is_some_and(|end| end != offset);
                if short || offset > self.limit() {
                    return Err(Broken(format!("the stream ends at {offset}, where it cannot end")));
                }
                self.end = Some(offset);
            }
            Frame::Ack { received, limit, chunks } => {
                if let Some(lane) = self.lanes.get_mut(&track) {
                    self.moved += lane.acknowledged(now, chunks)?;
                }
                self.sending.acknowledged(received, limit)?;
                for lane in self.lanes.values_mut() {
                    while lane.queue.front().is_some_and(|sent| !self.sending.is_needed(sent.offset, sent.bytes.len()))
                    {
                        lane.queue.pop_front();
                    }
                }
            }
            Frame::Abort(why) => {
                if self.state == State::Open && !self.is_done() {
                    self.state = State::PeerAborted(why);
                    self.sending.forget();
                }
            }
        }
        Ok(0)
    }
}

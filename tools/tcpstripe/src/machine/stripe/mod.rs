//! A group over flows: 64-bit offsets, credit, acknowledgements per track, so that a track may die.

mod hearing;
mod lane;
mod sending;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::lane::{Lane, Sent};
use self::sending::Sending;
use super::adapt::Reading;
use super::assembly::Assembly;
use super::blocked::Blocked;
use super::chunk::ChunkSize;
use super::schedule::{Candidate, may_take};
use super::{Broken, Group, Outgoing, Path, State, TrackId, View};
use crate::said::frame::{Abort, Frame};
use crate::said::rule::{How, MIN_WINDOW, Policy};

/// The longest chunk that adapting comes to.
const LONGEST: u32 = 128 << 10;
/// A track that has been stalled for so long is reset and replaced.
const HOPELESS: Duration = Duration::from_secs(15);

/// One end of a group over flows.
#[derive(Debug)]
pub struct Stripe {
    policy: Policy,
    chunk: Option<u32>,
    window: u64,
    patience: Duration,
    lanes: BTreeMap<TrackId, Lane>,
    turn: Option<TrackId>,
    sending: Sending,
    assembly: Assembly,
    written: u64,
    /// Where the peer's stream ends.
    end: Option<u64>,
    /// Up to where some of it has come.
    furthest: u64,
    state: State,
    /// Since when there is no track.
    alone: Option<Instant>,
    blocked: Blocked,
    /// Bytes of chunks that tracks have brought, both ways, those of tracks that are gone among them.
    moved: u64,
}

impl Stripe {
    /// A group without tracks yet. `first_limit`: what the peer takes before it says so, as its request told; `None`: the least
    /// that every end takes.
    pub fn new(now: Instant, how: &How, first_limit: Option<u32>) -> Self {
        Self {
            policy: how.policy,
            chunk: how.chunk,
            window: how.window.into(),
            patience: how.patience,
            lanes: BTreeMap::new(),
            turn: None,
            sending: Sending::new(first_limit.unwrap_or(MIN_WINDOW).into()),
            assembly: Assembly::default(),
            written: 0,
            end: None,
            furthest: 0,
            state: State::Open,
            alone: Some(now),
            blocked: Blocked::default(),
            moved: 0,
        }
    }

    fn limit(&self) -> u64 {
        self.written + self.window
    }

    /// What is acknowledged; one more once the end has been delivered, too.
    fn received(&self) -> u64 {
        if self.is_delivered() { self.written + 1 } else { self.assembly.next() }
    }

    fn is_done(&self) -> bool {
        self.sending.is_done() && self.is_delivered()
    }

    /// News that the track is to bring the peer.
    fn news(&mut self, track: TrackId) -> Option<Frame> {
        let (received, limit, quarter) = (self.received(), self.limit(), self.window / 4);
        let delivered = self.is_delivered();
        let lane = self.lanes.get_mut(&track)?;
        let due = lane.heard > lane.told.chunks
            || limit >= lane.told.limit + quarter
            || (delivered && lane.told.received < received);
        due.then(|| {
            (lane.told.chunks, lane.told.limit, lane.told.received) = (lane.heard, limit, received);
            Frame::Ack { received, limit, chunks: lane.heard }
        })
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate> + Clone + '_ {
        self.lanes.iter().map(|(track, lane)| Candidate {
            track: *track,
            alive: lane.alive(),
            free: !lane.busy && lane.in_flight < lane.window(),
            rtt: lane.path.rtt,
        })
    }

    fn data(&mut self, now: Instant, track: TrackId) -> Option<Outgoing> {
        let queued = self.lanes.get(&track).is_some_and(|lane| !lane.queue.is_empty());
        if !queued && !self.sending.has_chunk() || !may_take(self.policy, self.turn, track, self.candidates()) {
            return None;
        }
        let lane = self.lanes.get_mut(&track)?;
        let mut chunk = None;
        while let Some(Sent { offset, bytes }) = lane.queue.pop_front() {
            if self.sending.is_needed(offset, bytes.len()) {
                chunk = Some((offset, bytes));
                break;
            }
        }
        let fresh = chunk.is_none();
        let (offset, bytes) = chunk.or_else(|| self.sending.chunk(lane.chunk.size()))?;
        lane.launch(now, offset, bytes.clone());
        self.turn = Some(track);
        if fresh && self.policy == Policy::Redundant {
            for (_, other) in self.lanes.iter_mut().filter(|(other, _)| **other != track) {
                other.queue.push_back(Sent { offset, bytes: bytes.clone() });
            }
        }
        let frame = Frame::Data { offset, size: u32::try_from(bytes.len()).unwrap_or(u32::MAX) };
        Some(Outgoing::Bytes { head: frame.encode(), body: bytes })
    }

    /// The end of a track before that of the group: it was retired and has brought all it was given, or the peer retired it.
    fn leave(&mut self, track: TrackId) -> Option<Outgoing> {
        let lane = self.lanes.get_mut(&track)?;
        let leaves = lane.ended || lane.retired && lane.flight.is_empty();
        (leaves && !std::mem::replace(&mut lane.told.finished, true)).then_some(Outgoing::Finish)
    }

    /// What is said once on each track, at its end.
    fn last_words(&mut self, track: TrackId) -> Option<Outgoing> {
        let (end, done) = (self.sending.end(), self.is_done());
        let said = |frame: Frame| Some(Outgoing::Bytes { head: frame.encode(), body: Bytes::new() });
        let lane = self.lanes.get_mut(&track)?;
        match self.state {
            State::Open | State::Done => {}
            State::Aborted(why) if !std::mem::replace(&mut lane.told.abort, true) => return said(Frame::Abort(why)),
            State::Aborted(_) | State::PeerAborted(_) => {
                return (!std::mem::replace(&mut lane.told.finished, true)).then_some(Outgoing::Finish);
            }
        }
        if let Some(offset) = end
            && !std::mem::replace(&mut lane.told.end, true)
        {
            return said(Frame::End { offset });
        }
        (done && !std::mem::replace(&mut lane.told.finished, true)).then_some(Outgoing::Finish)
    }

    fn drop_lane(&mut self, now: Instant, track: TrackId) {
        let Some(lane) = self.lanes.remove(&track) else { return };
        for Sent { offset, bytes } in lane.flight {
            self.sending.send_again(offset, bytes);
        }
        if self.lanes.is_empty() {
            self.alone = Some(now);
            for Sent { offset, bytes } in lane.queue {
                self.sending.send_again(offset, bytes);
            }
        }
    }

    fn note_blocked(&mut self, now: Instant) {
        self.blocked.note(now, self.assembly.held() > 0 && self.assembly.is_empty());
    }

    /// Whether another track may bring what this one does not.
    fn has_other(&self, track: TrackId) -> bool {
        self.lanes.iter().any(|(other, lane)| *other != track && lane.alive())
    }
}

impl Group for Stripe {
    fn may_join(&self) -> bool {
        true
    }

    fn track_up(&mut self, now: Instant, track: TrackId) {
        self.lanes.insert(track, Lane::new(now, ChunkSize::new(LONGEST, self.chunk)));
        self.alone = None;
    }

    fn track_ended(&mut self, now: Instant, track: TrackId) -> Result<(), Broken> {
        if let Some(lane) = self.lanes.get_mut(&track) {
            if lane.coming.is_some() {
                return self.track_lost(now, track);
            }
            lane.ended = true;
            // What it has not acknowledged will not be: the peer reads on, perhaps, but answers no more.
            for Sent { offset, bytes } in std::mem::take(&mut lane.flight) {
                self.sending.send_again(offset, bytes);
            }
        }
        Ok(())
    }

    fn track_lost(&mut self, now: Instant, track: TrackId) -> Result<(), Broken> {
        self.drop_lane(now, track);
        Ok(())
    }

    fn set_path(&mut self, track: TrackId, path: Path) {
        if let Some(lane) = self.lanes.get_mut(&track) {
            lane.path = path;
        }
    }

    fn room(&self) -> usize {
        if self.state == State::Open { self.sending.room() as usize } else { 0 }
    }

    fn take(&mut self, _now: Instant, bytes: Bytes) {
        if !bytes.is_empty() && self.state == State::Open {
            self.sending.take(bytes);
        }
    }

    fn take_end(&mut self, _now: Instant) {
        self.sending.ended = true;
    }

    fn next(&mut self, now: Instant, track: TrackId) -> Option<Outgoing> {
        let lane = self.lanes.get(&track)?;
        if lane.busy || lane.told.finished {
            return None;
        }
        let open = self.state == State::Open;
        let news = if open { self.news(track) } else { None };
        let next = match news {
            Some(frame) => Some(Outgoing::Bytes { head: frame.encode(), body: Bytes::new() }),
            None if open => self.data(now, track).or_else(|| self.last_words(track)).or_else(|| self.leave(track)),
            None => self.last_words(track),
        };
        if next.is_some()
            && let Some(lane) = self.lanes.get_mut(&track)
        {
            lane.busy = true;
        }
        next
    }

    fn sent(&mut self, _now: Instant, track: TrackId) {
        if let Some(lane) = self.lanes.get_mut(&track) {
            lane.busy = false;
        }
    }

    fn head(&mut self, now: Instant, track: TrackId, bytes: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
        match Frame::decode(bytes) {
            Ok(None) => Ok(None),
            Ok(Some((frame, len))) => Ok(Some((len, self.hear(now, track, frame)?))),
            Err(malformed) => Err(Broken(format!("a track brought {malformed}"))),
        }
    }

    fn accepts(&self, _track: TrackId) -> bool {
        true
    }

    fn body(&mut self, now: Instant, track: TrackId, bytes: Bytes) -> Result<(), Broken> {
        let Some(lane) = self.lanes.get_mut(&track) else { return Ok(()) };
        let Some((offset, missing)) = lane.coming.filter(|(_, missing)| bytes.len() <= *missing) else {
            return Err(Broken("bytes came that belong to no chunk".to_owned()));
        };
        let left = missing - bytes.len();
        lane.bytes_in += bytes.len() as u64;
        self.moved += bytes.len() as u64;
        lane.coming = (left > 0).then_some((offset + bytes.len() as u64, left));
        lane.heard += u64::from(left == 0);
        self.assembly.insert(offset, bytes);
        self.note_blocked(now);
        Ok(())
    }

    fn deliver(&mut self) -> Option<Bytes> {
        self.assembly.pop()
    }

    fn delivered(&mut self, now: Instant, bytes: usize) {
        self.written += bytes as u64;
        self.note_blocked(now);
    }

    fn is_delivered(&self) -> bool {
        self.end == Some(self.written)
    }

    fn abort(&mut self, why: Abort) {
        if self.state == State::Open {
            self.state = State::Aborted(why);
            self.sending.forget();
        }
    }

    fn state(&self) -> State {
        if self.state == State::Open && self.is_done() { State::Done } else { self.state }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.state() != State::Open {
            return None;
        }
        let stalls = self.lanes.iter().filter(|(track, _)| self.has_other(**track));
        let stalls = stalls.filter_map(|(_, lane)| lane.stalls_at());
        let hopeless = self.lanes.values().filter_map(|lane| lane.stalled_since).map(|since| since + HOPELESS);
        stalls.chain(hopeless).chain(self.alone.map(|since| since + self.patience)).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.state() != State::Open {
            return;
        }
        if self.alone.is_some_and(|since| now >= since + self.patience) {
            self.abort(Abort::NoTrack);
        }
        let stalled: Vec<TrackId> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.stalls_at().is_some_and(|at| now >= at))
            .map(|(track, _)| *track)
            .collect();
        for track in stalled {
            if !self.has_other(track) {
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&track) else { continue };
            lane.stalled_since = Some(now);
            for Sent { offset, bytes } in lane.flight.iter().cloned() {
                self.sending.send_again(offset, bytes);
            }
        }
    }

    fn poll_hopeless(&mut self, now: Instant) -> Option<TrackId> {
        let hopeless = |lane: &Lane| lane.stalled_since.is_some_and(|since| now >= since + HOPELESS);
        let track = self.lanes.iter().find(|(_, lane)| hopeless(lane)).map(|(track, _)| *track)?;
        self.drop_lane(now, track);
        Some(track)
    }

    fn reading(&self) -> Reading {
        let alive = || self.lanes.values().filter(|lane| lane.alive());
        Reading {
            tracks: u16::try_from(alive().count()).unwrap_or(u16::MAX),
            moved: self.moved,
            waits: self.sending.has_chunk(),
            rtt: alive().filter_map(|lane| lane.path.rtt).max().unwrap_or_default(),
        }
    }

    fn may_part(&self) -> bool {
        true
    }

    fn retire(&mut self, track: TrackId) {
        if let Some(lane) = self.lanes.get_mut(&track) {
            lane.retired = true;
        }
    }

    fn view(&self, now: Instant) -> View {
        View {
            bytes_out: self.sending.taken,
            bytes_in: self.written,
            held: self.assembly.held(),
            held_most: self.assembly.held_most,
            out_of_order: self.assembly.out_of_order,
            doubled: self.assembly.doubled,
            blocked_seconds: self.blocked.seconds(now),
            sent_again: self.sending.sent_again,
            adapted: None,
            tracks: self.lanes.iter().map(|(track, lane)| lane.view(track.0)).collect(),
        }
    }
}

#[cfg(test)]
mod tests;

//! A group over TCP connections, as ro-ro-tcp has it: serial numbers, no acknowledgements. TCP itself brings what was given
//! to it, or breaks; a track that breaks ends the group.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use super::adapt::Reading;
use super::blocked::Blocked;
use super::chunk::ChunkSize;
use super::schedule::{Candidate, may_take};
use super::serial::{Order, extend};
use super::{Broken, Group, Outgoing, Path, State, TrackId, TrackView, View};
use crate::said::classic::{Framing, Header};
use crate::said::frame::Abort;
use crate::said::rule::{EndMark, How, Policy};

/// No track falls further behind the latest serial: half of what the serial's bits tell apart.
pub const GAP: u64 = 32_767;
/// Datagrams sent before the last track has joined, at most: who joins then cannot tell which its first one is.
pub const LATEST_JOIN: u64 = 16_384;
/// Bytes taken from the local side and not yet given to a track.
const AHEAD: usize = 256 << 10;
/// The longest datagram that adapting comes to.
const LONGEST: u32 = 128 << 10;

#[derive(Debug)]
struct Lane {
    path: Path,
    chunk: ChunkSize,
    busy: bool,
    under_way: usize,
    /// The last serial that it carried, out and in.
    last_out: u64,
    last_in: u64,
    /// The datagram that is coming: its number, and how many bytes are missing.
    coming: Option<(u64, usize)>,
    ended: bool,
    finished: bool,
    bytes_out: u64,
    bytes_in: u64,
}

/// One end of a group over TCP connections.
#[derive(Debug)]
pub struct Classic {
    policy: Policy,
    framing: Framing,
    mark: EndMark,
    window: usize,
    longest: u32,
    chunk: Option<u32>,
    lanes: BTreeMap<TrackId, Lane>,
    turn: Option<TrackId>,
    fresh: VecDeque<Bytes>,
    fresh_bytes: usize,
    taken: u64,
    taken_end: bool,
    marked: bool,
    /// The serial of the next datagram.
    serial: u64,
    order: Order,
    popped: u64,
    written: u64,
    /// All tracks have ended, and nothing is missing.
    closed: bool,
    /// The datagram that marks the end.
    mark_at: Option<u64>,
    state: State,
    blocked: Blocked,
}

impl Classic {
    /// A group without tracks yet.
    pub fn new(how: &How) -> Self {
        Self {
            policy: how.policy,
            framing: how.framing,
            mark: how.end,
            window: how.window as usize,
            longest: how.framing.longest().min(how.chunk.unwrap_or(LONGEST)),
            chunk: how.chunk,
            lanes: BTreeMap::new(),
            turn: None,
            fresh: VecDeque::new(),
            fresh_bytes: 0,
            taken: 0,
            taken_end: false,
            marked: false,
            serial: 1,
            order: Order::new(),
            popped: 0,
            written: 0,
            closed: false,
            mark_at: None,
            state: State::Open,
            blocked: Blocked::default(),
        }
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate> + Clone + '_ {
        // Those that lag must carry the next one, and all others wait for them.
        let lags = |lane: &Lane| self.serial - lane.last_out >= GAP;
        let some_lag = self.lanes.values().any(|lane| !lane.finished && lags(lane));
        self.lanes.iter().map(move |(track, lane)| Candidate {
            track: *track,
            alive: !lane.finished && (!some_lag || lags(lane)),
            free: !lane.busy,
            rtt: lane.path.rtt,
        })
    }

    /// A datagram of the front of what is fresh.
    fn datagram(&mut self, now: Instant, track: TrackId) -> Option<Outgoing> {
        let mark = self.taken_end && self.fresh.is_empty() && self.mark == EndMark::Mark && !self.marked;
        if self.fresh.is_empty() && !mark || !may_take(self.policy, self.turn, track, self.candidates()) {
            return None;
        }
        let lane = self.lanes.get_mut(&track)?;
        let body = match self.fresh.front_mut() {
            Some(first) => {
                let body = first.split_to(lane.chunk.size().clamp(1, first.len()));
                if first.is_empty() {
                    self.fresh.pop_front();
                }
                body
            }
            None => {
                self.marked = true;
                Bytes::new()
            }
        };
        self.fresh_bytes -= body.len();
        // The low bits only: that is what a serial on the wire is.
        let header = Header { serial: self.serial as u16, size: u32::try_from(body.len()).ok()? };
        let head = self.framing.encode(header)?;
        (lane.last_out, lane.busy, lane.under_way) = (self.serial, true, body.len());
        lane.bytes_out += body.len() as u64;
        if lane.bytes_out == body.len() as u64 {
            // The first reading begins here.
            lane.chunk.moved(now, 0);
        }
        self.serial += 1;
        self.turn = Some(track);
        Some(Outgoing::Bytes { head, body })
    }

    fn note_blocked(&mut self, now: Instant) {
        self.blocked.note(now, self.order.held() > 0 && self.popped == self.written);
    }

    /// All tracks have ended: is that all of it?
    fn close(&mut self) -> Result<(), Broken> {
        if let Some(missing) = self.order.first_missing() {
            return Err(Broken(format!("all tracks ended, and datagram {missing} had not come whole")));
        }
        if self.mark == EndMark::Mark && self.mark_at.is_none() {
            return Err(Broken("all tracks ended without the empty datagram that marks an end".to_owned()));
        }
        self.closed = true;
        Ok(())
    }
}

impl Group for Classic {
    fn may_join(&self) -> bool {
        // Else the peer cannot tell its first serial.
        self.serial <= LATEST_JOIN && !self.closed && self.mark_at.is_none() && self.state == State::Open
    }

    fn track_up(&mut self, _now: Instant, track: TrackId) {
        let lane = Lane {
            path: Path::default(),
            chunk: ChunkSize::new(self.longest, self.chunk),
            busy: false,
            under_way: 0,
            last_out: self.serial - 1,
            // Nothing that comes on it is older than what has been delivered.
            last_in: self.order.next() - 1,
            coming: None,
            ended: false,
            finished: false,
            bytes_out: 0,
            bytes_in: 0,
        };
        self.lanes.insert(track, lane);
    }

    fn track_ended(&mut self, _now: Instant, track: TrackId) -> Result<(), Broken> {
        let Some(lane) = self.lanes.get_mut(&track) else { return Ok(()) };
        if lane.coming.is_some() {
            return Err(Broken("a track ended within a datagram".to_owned()));
        }
        lane.ended = true;
        if self.lanes.values().all(|lane| lane.ended) { self.close() } else { Ok(()) }
    }

    fn track_lost(&mut self, _now: Instant, track: TrackId) -> Result<(), Broken> {
        let open = self.state() == State::Open;
        match self.lanes.remove(&track) {
            Some(lane) if open && !(lane.ended && lane.finished) => {
                Err(Broken("a track broke, and the protocol of TCP tracks sends nothing again".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn set_path(&mut self, track: TrackId, path: Path) {
        if let Some(lane) = self.lanes.get_mut(&track) {
            lane.path = path;
        }
    }

    fn room(&self) -> usize {
        let open = self.state == State::Open && !self.taken_end;
        if open { AHEAD.saturating_sub(self.fresh_bytes) } else { 0 }
    }

    fn take(&mut self, _now: Instant, bytes: Bytes) {
        if !bytes.is_empty() && self.state == State::Open {
            self.taken += bytes.len() as u64;
            self.fresh_bytes += bytes.len();
            self.fresh.push_back(bytes);
        }
    }

    fn take_end(&mut self, _now: Instant) {
        self.taken_end = true;
    }

    fn next(&mut self, now: Instant, track: TrackId) -> Option<Outgoing> {
        if self.state != State::Open || self.lanes.get(&track).is_none_or(|lane| lane.busy || lane.finished) {
            return None;
        }
        if let Some(datagram) = self.datagram(now, track) {
            return Some(datagram);
        }
        let all = self.taken_end && self.fresh.is_empty() && (self.marked || self.mark == EndMark::Fin);
        let lane = self.lanes.get_mut(&track)?;
        (lane.finished, lane.busy) = (all, all);
        all.then_some(Outgoing::Finish)
    }

    fn sent(&mut self, now: Instant, track: TrackId) {
        if let Some(lane) = self.lanes.get_mut(&track) {
            lane.busy = false;
            lane.chunk.moved(now, std::mem::take(&mut lane.under_way));
        }
    }

    fn head(&mut self, now: Instant, track: TrackId, bytes: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
        let Some(header) = self.framing.decode(bytes) else { return Ok(None) };
        let Some(lane) = self.lanes.get_mut(&track) else {
            return Ok(Some((self.framing.header(), header.size as usize)));
        };
        let Some(number) = extend(lane.last_in, header.serial) else {
            return Err(Broken(format!("serial {} came twice on one track", header.serial)));
        };
        let size = header.size as usize;
        lane.last_in = number;
        lane.coming = (size > 0).then_some((number, size));
        if self.mark_at.is_some_and(|mark| number > mark) {
            return Err(Broken("a datagram came behind the one that marks the end".to_owned()));
        }
        if size == 0 && number > self.order.next() && self.order.held() >= 2 * self.window {
            return Err(Broken("more empty datagrams came than this end keeps".to_owned()));
        }
        self.order.begin(number, size)?;
        if size == 0 && self.mark == EndMark::Mark {
            self.mark_at = Some(number);
        }
        self.note_blocked(now);
        Ok(Some((self.framing.header(), size)))
    }

    fn accepts(&self, track: TrackId) -> bool {
        // The one whose turn it is always: it frees the others.
        let turn = |lane: &Lane| lane.coming.is_some_and(|(number, _)| number == self.order.next());
        let written_out = self.order.ready_bytes() as u64 + self.popped - self.written < self.window as u64;
        written_out && (self.order.held() < self.window || self.lanes.get(&track).is_some_and(turn))
    }

    fn body(&mut self, now: Instant, track: TrackId, bytes: Bytes) -> Result<(), Broken> {
        let Some(lane) = self.lanes.get_mut(&track) else { return Ok(()) };
        let Some((number, missing)) = lane.coming.filter(|(_, missing)| bytes.len() <= *missing) else {
            return Err(Broken("bytes came that belong to no datagram".to_owned()));
        };
        let left = missing - bytes.len();
        lane.bytes_in += bytes.len() as u64;
        lane.coming = (left > 0).then_some((number, left));
        self.order.more(number, bytes);
        self.note_blocked(now);
        Ok(())
    }

    fn deliver(&mut self) -> Option<Bytes> {
        let piece = self.order.pop()?;
        self.popped += piece.len() as u64;
        Some(piece)
    }

    fn delivered(&mut self, now: Instant, bytes: usize) {
        self.written += bytes as u64;
        self.note_blocked(now);
    }

    fn is_delivered(&self) -> bool {
        let all = self.closed || self.mark_at.is_some_and(|mark| self.order.next() > mark);
        all && self.order.is_empty() && self.popped == self.written
    }

    fn abort(&mut self, why: Abort) {
        if self.state == State::Open {
            self.state = State::Aborted(why);
        }
    }

    fn state(&self) -> State {
        let closed = |lane: &Lane| lane.finished && !lane.busy && lane.ended;
        let done = self.state == State::Open && self.is_delivered() && self.lanes.values().all(closed);
        if done && self.taken_end { State::Done } else { self.state }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_hopeless(&mut self, _now: Instant) -> Option<TrackId> {
        None
    }

    fn reading(&self) -> Reading {
        let moved = |lane: &Lane| lane.bytes_out + lane.bytes_in;
        Reading {
            tracks: u16::try_from(self.lanes.len()).unwrap_or(u16::MAX),
            moved: self.lanes.values().map(moved).sum(),
            waits: !self.fresh.is_empty(),
            rtt: self.lanes.values().filter_map(|lane| lane.path.rtt).max().unwrap_or_default(),
        }
    }

    fn may_part(&self) -> bool {
        false
    }

    fn retire(&mut self, _track: TrackId) {}

    fn view(&self, now: Instant) -> View {
        let track = |(track, lane): (&TrackId, &Lane)| TrackView {
            track: track.0,
            bytes_out: lane.bytes_out,
            bytes_in: lane.bytes_in,
            in_flight: None,
            window: lane.path.window,
            rtt_ms: lane.path.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            lost: lane.path.lost,
            chunk: lane.chunk.size() as u64,
            stalled: false,
            retired: false,
        };
        View {
            bytes_out: self.taken,
            bytes_in: self.written,
            held: self.order.held() as u64,
            held_most: self.order.held_most as u64,
            out_of_order: self.order.out_of_order,
            doubled: 0,
            blocked_seconds: self.blocked.seconds(now),
            sent_again: 0,
            adapted: None,
            tracks: self.lanes.iter().map(track).collect(),
        }
    }
}

#[cfg(test)]
mod tests;

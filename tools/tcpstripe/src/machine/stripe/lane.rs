//! A track as the protocol over flows sees it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::machine::chunk::ChunkSize;
use crate::machine::{Broken, Path, TrackView};

/// Of a flow whose path nobody knows, as within a host.
const UNKNOWN_WINDOW: u64 = 1 << 20;
/// Beyond what the path bears: acknowledgements of ours take their time, and so does what the flow itself sends again.
const SLACK: u64 = 64 << 10;
/// Without anything acknowledged, a track on which something is under way is taken for stalled between these times.
const STALL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// And what is added to some round trips.
const STALL_SLACK: Duration = Duration::from_millis(250);

/// A chunk that was handed to the track and not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// One track.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) path: Path,
    pub(super) chunk: ChunkSize,
    /// Its writer has a frame under way.
    pub(super) busy: bool,
    pub(super) flight: VecDeque<Sent>,
    pub(super) in_flight: u64,
    /// Redundant: what other tracks have been given and this one has not.
    pub(super) queue: VecDeque<Sent>,
    /// Chunks that the peer has acknowledged.
    acked: u64,
    /// Since when nothing was acknowledged although something is under way.
    progress: Instant,
    pub(super) stalled_since: Option<Instant>,
    /// What has been told to the peer on this track.
    pub(super) told: Told,
    /// A chunk that is coming: where its next byte belongs, and how many are missing.
    pub(super) coming: Option<(u64, usize)>,
    /// Chunks that came whole.
    pub(super) heard: u64,
    pub(super) bytes_out: u64,
    pub(super) bytes_in: u64,
    /// Its receiving half has ended: the peer closes it.
    pub(super) ended: bool,
    /// It is to end when it has brought what it was given.
    pub(super) retired: bool,
}

/// What a track has carried of news.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) chunks: u64,
    pub(super) limit: u64,
    pub(super) received: u64,
    pub(super) end: bool,
    pub(super) abort: bool,
    pub(super) finished: bool,
}

impl Lane {
    pub(super) fn new(now: Instant, chunk: ChunkSize) -> Self {
        Self {
            path: Path::default(),
            chunk,
            busy: false,
            flight: VecDeque::new(),
            in_flight: 0,
            queue: VecDeque::new(),
            acked: 0,
            progress: now,
            stalled_since: None,
            told: Told::default(),
            coming: None,
            heard: 0,
            bytes_out: 0,
            bytes_in: 0,
            ended: false,
            retired: false,
        }
    }

    /// Bytes that may be under way, unacknowledged.
    pub(super) fn window(&self) -> u64 {
        self.path.window.map_or(UNKNOWN_WINDOW, |window| window.saturating_mul(2).saturating_add(SLACK))
    }

    pub(super) fn alive(&self) -> bool {
        self.stalled_since.is_none() && !self.ended && !self.retired
    }

    /// A chunk goes out.
    pub(super) fn launch(&mut self, now: Instant, offset: u64, bytes: Bytes) {
        if self.flight.is_empty() {
            self.progress = now;
        }
        self.in_flight += bytes.len() as u64;
        self.bytes_out += bytes.len() as u64;
        self.flight.push_back(Sent { offset, bytes });
    }

    /// The peer has so many of its chunks; how many bytes are new of them.
    pub(super) fn acknowledged(&mut self, now: Instant, chunks: u64) -> Result<u64, Broken> {
        let new = chunks.checked_sub(self.acked).filter(|new| *new <= self.flight.len() as u64);
        let Some(new) = new else {
            return Err(Broken(format!(
                "chunk {chunks} of a track was acknowledged; {} were sent",
                self.acked + self.flight.len() as u64
            )));
        };
        let before = self.in_flight;
        for _ in 0..new {
            let bytes = self.flight.pop_front().map_or(0, |sent| sent.bytes.len());
            self.in_flight -= bytes as u64;
            self.chunk.moved(now, bytes);
        }
        if new > 0 {
            (self.acked, self.progress, self.stalled_since) = (chunks, now, None);
        }
        Ok(before - self.in_flight)
    }

    /// When it is taken for stalled, unless something is acknowledged before.
    pub(super) fn stalls_at(&self) -> Option<Instant> {
        if self.flight.is_empty() || self.stalled_since.is_some() {
            return None;
        }
        let patience = self.path.rtt.unwrap_or_default() * 4 + STALL_SLACK;
        Some(self.progress + patience.clamp(STALL.0, STALL.1))
    }

    pub(super) fn view(&self, track: u32) -> TrackView {
        TrackView {
            track,
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            in_flight: Some(self.in_flight),
            window: Some(self.window()),
            rtt_ms: self.path.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            lost: self.path.lost,
            chunk: self.chunk.size() as u64,
            stalled: self.stalled_since.is_some(),
            retired: self.retired,
        }
    }
}

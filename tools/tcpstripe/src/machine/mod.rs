//! Decides which bytes go over which track, and when those that came may leave. No clock, no socket: [`crate::io`] moves what
//! is decided here.
//!
//! A [`Group`] is one end of one client's connection over many tracks. There are two kinds: [`Classic`] speaks the seed's
//! protocol, [`Stripe`] that over flows.

pub mod adapt;
mod assembly;
mod blocked;
mod chunk;
mod classic;
mod hostile;
mod schedule;
mod serial;
mod stripe;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod world_tests;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use adapt::{Change, Reading};
pub use classic::{Classic, GAP, LATEST_JOIN};
#[doc(hidden)]
pub use hostile::play;
pub use stripe::Stripe;

use crate::said::frame::Abort;
use crate::said::head::Head;

/// A track of a group, numbered at this end as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u32);

/// What is known of a track's path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Round trip.
    pub rtt: Option<Duration>,
    /// Bytes that the path bears at a time; `None`: nobody knows, or the socket says itself when it is full.
    pub window: Option<u64>,
    /// Packets taken for lost, so far.
    pub lost: u64,
}

/// Unsent bytes in the kernel: at least, at most, and in between those of so much of the track's time.
const UNSENT: (u64, u64) = (16 << 10, 128 << 10);
const UNSENT_TIME: f64 = 0.02;

impl Path {
    /// How many bytes may wait in the kernel unsent: enough to keep the track busy until it is looked at again, and
    /// no more, since nobody else brings them sooner. From 16 KiB to 128 KiB.
    pub fn unsent(&self) -> u32 {
        let bytes = match (self.window, self.rtt) {
            (Some(window), Some(rtt)) if !rtt.is_zero() => window as f64 / rtt.as_secs_f64() * UNSENT_TIME,
            _ => UNSENT.1 as f64,
        };
        bytes.clamp(UNSENT.0 as f64, UNSENT.1 as f64) as u32
    }
}

/// What a track is to carry next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// These bytes, whole.
    Bytes {
        /// First these.
        head: Head,
        /// Then these.
        body: Bytes,
    },
    /// No more: its sending half ends here.
    Finish,
}

/// The peer did what it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// What a group has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Bytes may still move.
    Open,
    /// Both ways have ended as they should, and both ends know.
    Done,
    /// This end gave it up.
    Aborted(Abort),
    /// The other end did.
    PeerAborted(Abort),
}

/// One end of one client's connection.
///
/// Its owner reads from the local side while there is [`room`](Self::room), asks for the [`next`](Self::next) frame of each track
/// whose last one was [`sent`](Self::sent), passes in what tracks bring, and writes out what is to be delivered.
pub trait Group: Send {
    /// Whether one more track may join.
    fn may_join(&self) -> bool;

    /// A track is there.
    fn track_up(&mut self, now: Instant, track: TrackId);

    /// A track's receiving half ended, between two frames.
    ///
    /// # Errors
    /// There should have been more.
    fn track_ended(&mut self, now: Instant, track: TrackId) -> Result<(), Broken>;

    /// A track is gone, for whatever reason.
    ///
    /// # Errors
    /// The group cannot go on without it.
    fn track_lost(&mut self, now: Instant, track: TrackId) -> Result<(), Broken>;

    /// What is known of a track's path by now.
    fn set_path(&mut self, track: TrackId, path: Path);

    /// How many bytes from the local side are wanted now.
    fn room(&self) -> usize;

    /// Bytes from the local side, at most [`room`](Self::room).
    fn take(&mut self, now: Instant, bytes: Bytes);

    /// The local side has no more.
    fn take_end(&mut self, now: Instant);

    /// What a track whose writer is free is to carry.
    fn next(&mut self, now: Instant, track: TrackId) -> Option<Outgoing>;

    /// The last frame that [`next`](Self::next) gave for the track has been handed to its carrier.
    fn sent(&mut self, now: Instant, track: TrackId);

    /// The bytes that a track brings next, from a frame's beginning: how many of them are its head, and how many bytes of chunk follow.
    /// `None` while the head is incomplete.
    ///
    /// # Errors
    /// They make no sense.
    fn head(&mut self, now: Instant, track: TrackId, bytes: &[u8]) -> Result<Option<(usize, usize)>, Broken>;

    /// Whether more bytes of the track's chunk are wanted now; if not, when some have been delivered.
    fn accepts(&self, track: TrackId) -> bool;

    /// More bytes of the track's chunk.
    ///
    /// # Errors
    /// They may not be there.
    fn body(&mut self, now: Instant, track: TrackId, bytes: Bytes) -> Result<(), Broken>;

    /// The next bytes for the local side.
    fn deliver(&mut self) -> Option<Bytes>;

    /// So many bytes were written out.
    fn delivered(&mut self, now: Instant, bytes: usize);

    /// All has been delivered, no more comes: the local side reads its end now.
    fn is_delivered(&self) -> bool;

    /// Gives the group up.
    fn abort(&mut self, why: Abort);

    /// What it has come to.
    fn state(&self) -> State;

    /// When to call [`handle_timeout`](Self::handle_timeout).
    fn poll_timeout(&self) -> Option<Instant>;

    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant);

    /// A track that carries nothing any more and is to be reset and replaced.
    fn poll_hopeless(&mut self, now: Instant) -> Option<TrackId>;

    /// What is seen of it by who decides how many tracks it has.
    fn reading(&self) -> Reading;

    /// Whether a track may end both ways while the others go on.
    fn may_part(&self) -> bool;

    /// The track carries no more than what it has, and then ends. Nothing where the protocol knows no such thing.
    fn retire(&mut self, track: TrackId);

    /// Counters.
    fn view(&self, now: Instant) -> View;
}

/// A group's counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Bytes taken from the local side.
    pub bytes_out: u64,
    /// Bytes delivered to the local side.
    pub bytes_in: u64,
    /// Bytes that wait for those before them.
    pub held: u64,
    /// The most that ever waited.
    pub held_most: u64,
    /// Chunks that came before their turn.
    pub out_of_order: u64,
    /// Bytes that came twice.
    pub doubled: u64,
    /// Seconds in which bytes waited for those before them.
    pub blocked_seconds: f64,
    /// Bytes sent again over other tracks.
    pub sent_again: u64,
    /// Where their number adapts: how many tracks there are to be, and why.
    #[serde(default)]
    pub adapted: Option<Change>,
    /// Its tracks.
    pub tracks: Vec<TrackView>,
}

/// A track's counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrackView {
    /// Its number at this end.
    pub track: u32,
    /// Bytes of chunks handed to it.
    pub bytes_out: u64,
    /// Bytes of chunks that it brought.
    pub bytes_in: u64,
    /// Bytes handed to it and not acknowledged; `null` where nobody acknowledges.
    pub in_flight: Option<u64>,
    /// Bytes that the path bears at a time.
    pub window: Option<u64>,
    /// Round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Packets taken for lost.
    pub lost: u64,
    /// The chunk size it is at, bytes.
    pub chunk: u64,
    /// Nothing moves on it although something should.
    pub stalled: bool,
    /// It is about to end: there are to be fewer.
    #[serde(default)]
    pub retired: bool,
}

//! One direction of a link: the frames under way, and what was done to the others.

use std::time::Instant;

use super::delays::Delays;
use super::link::{Counts, Link};
use super::wire::{Departure, Fate, Why, Wire};

/// Bytes of frames that may be under way in one direction: 5 s of 100 Mbit/s.
const ROOM: usize = 64 << 20;

/// Takes frames in and gives them out at their time.
pub(crate) struct Lane {
    direction: u64,
    wire: Wire,
    under_way: Delays<Frame>,
    is_cut: bool,
    counts: Counts,
}

/// A frame to be sent on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Two of them.
    pub(crate) twice: bool,
}

impl Lane {
    /// `direction` tells the two of a link apart.
    pub(crate) fn new(link: Link, direction: u64) -> Self {
        Self {
            direction,
            wire: Wire::new(link, direction),
            under_way: Delays::new(ROOM),
            is_cut: false,
            counts: Counts::default(),
        }
    }

    /// Other settings, from the next frame on; what is under way leaves as decided. The dice start anew.
    pub(crate) fn set(&mut self, link: Link) {
        self.wire = Wire::new(link, self.direction);
    }

    /// Cuts it, which loses what is under way, or mends it.
    pub(crate) fn cut(&mut self, cut: bool) {
        self.is_cut = cut;
        if cut {
            self.counts.cut += self.under_way.clear() as u64;
        }
    }

    /// A frame arrives.
    pub(crate) fn offer(&mut self, now: Instant, frame: &[u8]) {
        self.counts.arrived += 1;
        if self.is_cut {
            self.counts.cut += 1;
            return;
        }
        let to_many = frame.first().is_some_and(|byte| byte & 1 == 1);
        match self.wire.pass(now, frame.len(), to_many) {
            Fate::Leaves(departure) => self.take(&departure, frame),
            Fate::Dropped(Why::Lost) => self.counts.lost += 1,
            Fate::Dropped(Why::LostInBurst) => self.counts.lost_in_burst += 1,
            Fate::Dropped(Why::Overflowed) => self.counts.overflowed += 1,
            Fate::Dropped(Why::TooLarge) => self.counts.too_large += 1,
        }
    }

    fn take(&mut self, departure: &Departure, frame: &[u8]) {
        let mut bytes = frame.to_vec();
        if let Some(bit) = departure.flipped {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if self.under_way.push(departure.at, frame.len(), Frame { bytes, twice: departure.twice }).is_err() {
            self.counts.overflowed += 1;
            return;
        }
        self.counts.doubled += u64::from(departure.twice);
        self.counts.corrupted += u64::from(departure.flipped.is_some());
        self.counts.held_back += u64::from(departure.held_back);
    }

    /// A frame whose time has come; it counts as passed.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Frame> {
        let frame = self.under_way.pop(now)?;
        self.counts.passed += 1;
        Some(frame)
    }

    /// When the next frame leaves.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.under_way.next()
    }

    /// So many frames could not be read.
    pub(crate) fn missed(&mut self, frames: u64) {
        self.counts.arrived += frames;
        self.counts.failed += frames;
    }

    /// So many frames that were due could not be sent on.
    pub(crate) fn unsent(&mut self, frames: u64) {
        self.counts.passed = self.counts.passed.saturating_sub(frames);
        self.counts.failed += frames;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn frames_pass_at_their_time_and_are_counted() {
        let start = Instant::now();
        let mut lane = Lane::new(Link { delay: 5 * MS, ..Link::CLEAN }, 0);
        lane.offer(start, b"one");
        assert_eq!((lane.due(start + 4 * MS), lane.next()), (None, Some(start + 5 * MS)));
        assert_eq!(lane.due(start + 5 * MS), Some(Frame { bytes: b"one".to_vec(), twice: false }));
        assert_eq!(lane.counts(), Counts { arrived: 1, passed: 1, ..Counts::default() });
    }

    #[test]
    fn a_cut_loses_what_is_under_way_and_what_comes() {
        let now = Instant::now();
        let mut lane = Lane::new(Link { delay: MS, ..Link::CLEAN }, 0);
        lane.offer(now, b"under way");
        lane.cut(true);
        lane.offer(now, b"comes");
        lane.cut(false);
        assert_eq!(lane.due(now + MS), None);
        lane.offer(now, b"after");
        assert_eq!(lane.due(now + MS).map(|frame| frame.bytes), Some(b"after".to_vec()));
        assert_eq!(lane.counts(), Counts { arrived: 3, passed: 1, cut: 2, ..Counts::default() });
    }

    #[test]
    fn one_bit_is_flipped_behind_the_ethernet_header() {
        let now = Instant::now();
        let mut lane = Lane::new(Link { corrupt: 1.0, ..Link::CLEAN }, 0);
        for _ in 0..1000 {
            lane.offer(now, &[0; 60]);
            let bytes = lane.due(now).expect("it passes").bytes;
            assert_eq!(bytes[..14], [0; 14]);
            assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        }
    }

    #[test]
    fn settings_change_under_way_and_every_frame_is_in_one_count() {
        let start = Instant::now();
        let mut lane = Lane::new(Link { delay: MS, loss: 0.2, mtu: Some(100), ..Link::CLEAN }, 0);
        for n in 0..1000 {
            if n == 500 {
                lane.set(Link { duplicate: 0.5, rate: Some(8000), queue: 1000, ..Link::CLEAN });
            }
            lane.offer(start + MS * n, &[0; 120][..60 + (n % 60) as usize]);
        }
        while lane.due(start + 10_000 * MS).is_some() {}
        let c = lane.counts();
        let sum = c.passed + c.lost + c.lost_in_burst + c.overflowed + c.too_large + c.cut + c.failed;
        assert_eq!((c.arrived, sum), (1000, 1000), "{c:?}");
        assert!(c.lost > 50 && c.too_large > 0 && c.overflowed > 0 && c.doubled > 0, "{c:?}");
    }
}

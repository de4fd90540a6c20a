//! One direction of a link: what becomes of each frame.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::link::Link;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is dropped.
    Dropped(Why),
    /// It leaves.
    Leaves(Departure),
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Lost,
    LostInBurst,
    Overflowed,
    TooLarge,
}

/// How a frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// When.
    pub(crate) at: Instant,
    /// Two of them.
    pub(crate) twice: bool,
    /// With this bit flipped: bit `% 8` of byte `/ 8`.
    pub(crate) flipped: Option<usize>,
    /// Later than its delay, so that others overtake it.
    pub(crate) held_back: bool,
}

const ETHERNET_HEADER: usize = 14;

/// Decides for the frames of one direction, in their order.
#[derive(Debug)]
pub(crate) struct Wire {
    link: Link,
    /// For frames to one station, and for those to many: hosts announce themselves when they like, and that is not to
    /// change what becomes of the frames of a test.
    dice: [ChaCha8Rng; 2],
    /// In a burst of losses.
    bad: bool,
    /// When the last bit of what was let into the queue is on the wire.
    busy_until: Option<Instant>,
    /// No frame that keeps its order leaves before.
    last: Option<Instant>,
}

/// The throws for one frame. Every frame throws all of them, whatever is set: so a knob turned does not change what the
/// others decide.
struct Throws([u32; 8]);

impl Throws {
    fn hits(&self, die: usize, share: f64) -> bool {
        f64::from(self.0[die]) < share * (f64::from(u32::MAX) + 1.0)
    }

    /// From -1 to 1.
    fn swing(&self, die: usize) -> f64 {
        f64::from(self.0[die]) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}

impl Wire {
    /// A wire in one of two `direction`s, whose dice differ.
    pub(crate) fn new(link: Link, direction: u64) -> Self {
        let dice = [0, 1].map(|to_many| {
            let mut dice = ChaCha8Rng::seed_from_u64(link.seed);
            dice.set_stream(2 * direction + to_many);
            dice
        });
        Self { link, dice, bad: false, busy_until: None, last: None }
    }

    /// What becomes of a frame of `length` bytes, Ethernet header included, that arrives `now`; `to_many` is a broadcast
    /// or multicast.
    pub(crate) fn pass(&mut self, now: Instant, length: usize, to_many: bool) -> Fate {
        let throws = Throws(std::array::from_fn(|_| self.dice[usize::from(to_many)].next_u32()));
        if self.link.mtu.is_some_and(|mtu| length > mtu + ETHERNET_HEADER) {
            return Fate::Dropped(Why::TooLarge);
        }
        // Also for a frame that is lost anyway: bursts go on whatever `loss` does.
        let in_burst = if to_many { self.bad } else { self.burst(&throws) };
        if throws.hits(0, self.link.loss) {
            return Fate::Dropped(Why::Lost);
        }
        if in_burst {
            return Fate::Dropped(Why::LostInBurst);
        }
        let Some(sent) = self.transmit(now, length) else { return Fate::Dropped(Why::Overflowed) };
        let (at, held_back) = self.travel(sent, &throws);
        let corrupted = throws.hits(4, self.link.corrupt) && length > ETHERNET_HEADER;
        let bits = length.saturating_sub(ETHERNET_HEADER) * 8;
        let flipped = corrupted.then(|| ETHERNET_HEADER * 8 + throws.0[5] as usize % bits);
        Fate::Leaves(Departure { at, twice: throws.hits(6, self.link.duplicate), flipped, held_back })
    }

    fn burst(&mut self, throws: &Throws) -> bool {
        let Some(burst) = self.link.burst else { return false };
        let turns = throws.hits(1, if self.bad { burst.end } else { burst.begin });
        self.bad ^= turns;
        self.bad
    }

    /// When its last bit is on the wire; none where the queue has no room.
    fn transmit(&mut self, now: Instant, length: usize) -> Option<Instant> {
        let Some(rate) = self.link.rate else { return Some(now) };
        let begins = self.busy_until.map_or(now, |busy| busy.max(now));
        let waiting = begins.saturating_duration_since(now).as_secs_f64() * as_f64(rate) / 8.0;
        // The frame on the wire is in no queue: with an empty one, one frame always passes.
        if begins > now && waiting + length as f64 > self.link.queue as f64 {
            return None;
        }
        let sent = begins + Duration::from_secs_f64(length as f64 * 8.0 / as_f64(rate));
        self.busy_until = Some(sent);
        Some(sent)
    }

    /// When it arrives at the far end, and whether it is held back.
    fn travel(&mut self, sent: Instant, throws: &Throws) -> (Instant, bool) {
        let swing = self.link.jitter.mul_f64(throws.swing(2).abs());
        let delay = if throws.swing(2) < 0.0 { self.link.delay - swing } else { self.link.delay + swing };
        if throws.hits(3, self.link.reorder) {
            return (sent + delay + self.link.reorder_by, true);
        }
        let at = self.last.map_or(sent + delay, |last| last.max(sent + delay));
        self.last = Some(at);
        (at, false)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52 bit/s")]
fn as_f64(rate: u64) -> f64 {
    rate as f64
}

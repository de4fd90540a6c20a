//! The knobs of a link.

use std::fmt;
use std::time::Duration;

/// What a link does to the frames of one direction. [`Link::CLEAN`] does nothing; set what is to differ:
///
/// ```
/// # use {lab::Link, std::time::Duration};
/// let link = Link { delay: Duration::from_millis(50), loss: 0.1, seed: 7, ..Link::CLEAN };
/// ```
///
/// Shares are from 0 to 1. Two directions with the same seed roll different dice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// How long a frame takes, one way.
    pub delay: Duration,
    /// The delay is uniform in `delay ± jitter`; at most `delay`. Jitter alone never reorders: a frame leaves no earlier
    /// than the one before it, so close frames wait for the slowest of them.
    pub jitter: Duration,
    /// Share of frames lost, each independently of the others.
    pub loss: f64,
    /// Losses in bursts, beside the independent ones.
    pub burst: Option<Burst>,
    /// Share of frames that are held back by `reorder_by`, so that those sent meanwhile overtake them.
    pub reorder: f64,
    /// How long those are held back.
    pub reorder_by: Duration,
    /// Share of frames that arrive twice, the second right behind the first.
    pub duplicate: f64,
    /// Share of frames in which one bit is flipped, anywhere behind the Ethernet header; checksums catch most.
    pub corrupt: f64,
    /// Bits of Ethernet frames per second; none: no limit. Frames that wait for their turn are in the queue.
    pub rate: Option<u64>,
    /// Bytes that may wait because of `rate`; a frame that finds no room is dropped (tail drop).
    pub queue: usize,
    /// The largest IP packet, bytes; a larger one is dropped without a word, as behind a firewall that eats ICMP.
    pub mtu: Option<usize>,
    /// The same seed decides the same for the same sequence of unicast frames (with `rate`: that arrive at the same
    /// times).
    pub seed: u64,
}

/// Losses in bursts (Gilbert and Elliott): in the good state no frame is lost, in the bad one all are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// For each frame, how likely the good state ends before it.
    pub begin: f64,
    /// For each frame, how likely the bad state ends before it; a burst is 1 / `end` frames long on average.
    pub end: f64,
}

impl Burst {
    /// Bursts of `length` frames on average (at least 1), so many that `loss` of all frames are lost (less than 1).
    pub fn of(loss: f64, length: f64) -> Self {
        let end = 1.0 / length.max(1.0);
        Self { begin: (end * loss / (1.0 - loss)).clamp(0.0, 1.0), end }
    }
}

impl Link {
    /// Nothing is done to a frame. The queue has 64 KiB once there is a rate.
    pub const CLEAN: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        burst: None,
        reorder: 0.0,
        reorder_by: Duration::from_millis(10),
        duplicate: 0.0,
        corrupt: 0.0,
        rate: None,
        queue: 64 << 10,
        mtu: None,
        seed: 1,
    };

    /// The longest delay that can be set; what is under way is kept in memory.
    pub const MAX_DELAY: Duration = Duration::from_secs(60);

    /// Whether it makes sense; else what does not.
    pub fn check(&self) -> Result<(), String> {
        let burst = self.burst.unwrap_or(Burst { begin: 0.0, end: 1.0 });
        let shares = [
            ("loss", self.loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
            ("burst.begin", burst.begin),
            ("burst.end", burst.end),
        ];
        if let Some((what, share)) = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return Err(format!("a link's {what} of {share} is no share; give one from 0 to 1"));
        }
        for (what, time) in [("delay", self.delay), ("reorder_by", self.reorder_by)] {
            if time > Self::MAX_DELAY {
                return Err(format!("a link's {what} of {time:?} is too long; give at most {:?}", Self::MAX_DELAY));
            }
        }
        if self.jitter > self.delay {
            return Err(format!(
                "a link's jitter of {:?} is more than its delay of {:?}; give at most that",
                self.jitter, self.delay
            ));
        }
        if self.rate.is_some_and(|rate| rate < 1000) {
            return Err("a link's rate is below 1000 bit/s; cut it instead".to_owned());
        }
        Ok(())
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::CLEAN
    }
}

/// What a link did to the frames of one direction since it was first set. Every frame that `arrived` is in exactly one
/// of the other counts but `doubled`, `corrupted` and `held_back`, or still under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that came to the link.
    pub arrived: u64,
    /// Frames that left it, second copies not counted.
    pub passed: u64,
    /// Lost independently.
    pub lost: u64,
    /// Lost in a burst.
    pub lost_in_burst: u64,
    /// Found no room in the queue of the rate, or in the memory of the link (64 MiB under way).
    pub overflowed: u64,
    /// Larger than the MTU.
    pub too_large: u64,
    /// Came while the link was cut, or were under way then.
    pub cut: u64,
    /// Left twice.
    pub doubled: u64,
    /// Left with a flipped bit.
    pub corrupted: u64,
    /// Left late, to be overtaken.
    pub held_back: u64,
    /// Could not be read (the link's reading fell behind and the kernel had no room) or sent on: not to be seen in a
    /// sound test.
    pub failed: u64,
}

/// What there is of it: `arrived 20, passed 17, lost 3`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arrived {}, passed {}", self.arrived, self.passed)?;
        let others = [
            ("lost", self.lost),
            ("lost in bursts", self.lost_in_burst),
            ("overflowed", self.overflowed),
            ("too large", self.too_large),
            ("cut", self.cut),
            ("doubled", self.doubled),
            ("corrupted", self.corrupted),
            ("held back", self.held_back),
            ("failed", self.failed),
        ];
        others.into_iter().filter(|(_, count)| *count > 0).try_for_each(|(what, count)| write!(f, ", {what} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_say_what_there_is() {
        assert_eq!(Counts::default().to_string(), "arrived 0, passed 0");
        let counts = Counts { arrived: 9, passed: 6, lost: 2, cut: 1, doubled: 3, ..Counts::default() };
        assert_eq!(counts.to_string(), "arrived 9, passed 6, lost 2, cut 1, doubled 3");
    }
}

//! How long allocations took, and how they came out.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::FailureKind;

/// Upper bounds of the buckets, seconds. What took longer is in one more bucket.
pub const BOUNDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Which side of an allocation this host was. A flow within it is asked for, and counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// A program of this host asked.
    Asking,
    /// A peer's host asked.
    Accepting,
}

/// How an allocation came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a flow.
    Allocated,
    /// There is none, and why.
    Refused(FailureKind),
    /// Whoever asked went away first.
    Cancelled,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Asking, Self::Accepting];

    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Accepting => "accepting",
        }
    }
}

impl Outcome {
    fn index(self) -> usize {
        match self {
            Self::Allocated => 0,
            Self::Refused(_) => 1,
            Self::Cancelled => 2,
        }
    }
}

/// Values of the label `outcome`.
pub const OUTCOMES: [&str; 3] = ["allocated", "refused", "cancelled"];

/// A histogram: how many values are in each bucket, not added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.counts[BOUNDS.partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }

    /// Of all values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bucket's upper bound, and what is in it.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

/// All allocations of this daemon's life.
#[derive(Clone, Debug, Default)]
pub struct Took {
    spreads: [[Spread; OUTCOMES.len()]; Side::ALL.len()],
    refused: BTreeMap<(Side, FailureKind), u64>,
    cancelled: [u64; Side::ALL.len()],
}

impl Took {
    /// One more.
    pub fn add(&mut self, side: Side, took: Duration, outcome: Outcome) {
        self.spreads[side as usize][outcome.index()].add(took.as_secs_f64());
        match outcome {
            Outcome::Allocated => {}
            Outcome::Refused(kind) => *self.refused.entry((side, kind)).or_default() += 1,
            Outcome::Cancelled => self.cancelled[side as usize] += 1,
        }
    }

    /// Times by side and outcome.
    pub fn spreads(&self) -> impl Iterator<Item = (Side, &'static str, &Spread)> {
        let of = |side: Side| OUTCOMES.into_iter().zip(&self.spreads[side as usize]).map(move |(o, s)| (side, o, s));
        Side::ALL.into_iter().flat_map(of)
    }

    /// Refusals by side and reason, those that never happened too: a rate from nothing to one would not be seen.
    pub fn refusals(&self) -> impl Iterator<Item = (Side, &'static str, u64)> {
        let of = move |side: Side| {
            let count = move |kind: FailureKind| self.refused.get(&(side, kind)).copied().unwrap_or(0);
            let kinds = FailureKind::KNOWN.iter().map(move |kind| (side, kind.word(), count(*kind)));
            kinds.chain([(side, "cancelled", self.cancelled[side as usize])])
        };
        Side::ALL.into_iter().flat_map(of)
    }
}

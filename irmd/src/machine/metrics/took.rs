//! How long allocations took, by how they came out.

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

/// Values of the label `outcome`; cancelled: whoever asked went away first.
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
}

impl Took {
    /// One more; `refused`: why there is no flow.
    pub fn add(&mut self, side: Side, took: Duration, refused: Option<FailureKind>) {
        let outcome = match refused {
            None => 0,
            Some(FailureKind::FlowGone) => 2,
            Some(_) => 1,
        };
        self.spreads[side as usize][outcome].add(took.as_secs_f64());
    }

    /// Times by side and outcome.
    pub fn spreads(&self) -> impl Iterator<Item = (Side, &'static str, &Spread)> {
        let of = |side: Side| OUTCOMES.into_iter().zip(&self.spreads[side as usize]).map(move |(o, s)| (side, o, s));
        Side::ALL.into_iter().flat_map(of)
    }
}

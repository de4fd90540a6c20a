//! Fair ping: who is nearer waits until all have the round trip of who is farthest.

use std::time::Duration;

/// How much longer a player's datagrams wait, from it and to it, whose way to the proxy and back takes `own`. Nobody waits
/// for more than `bound` in all, however slow the slowest is.
pub fn more(own: Duration, all: impl Iterator<Item = Duration>, bound: Duration) -> [Duration; 2] {
    let slowest = all.max().unwrap_or_default();
    let wait = slowest.saturating_sub(own).min(bound);
    // Half on each way, as if the way itself were longer.
    [wait / 2, wait - wait / 2]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Within the bound all have the same round trip; nobody is delayed for more than it, and the slowest never.
        #[test]
        fn all_have_the_round_trip_of_the_slowest(legs in prop::collection::vec(0..500_000_u64, 1..20), bound in 0..500_000_u64) {
            let legs: Vec<Duration> = legs.into_iter().map(Duration::from_micros).collect();
            let bound = Duration::from_micros(bound);
            let slowest = *legs.iter().max().unwrap();
            for own in &legs {
                let [up, down] = more(*own, legs.iter().copied(), bound);
                prop_assert!(up + down <= bound);
                let expected = if slowest - *own <= bound { slowest } else { *own + bound };
                prop_assert_eq!(*own + up + down, expected);
                prop_assert!(up.abs_diff(down) <= Duration::from_nanos(1));
            }
        }
    }
}

//! Dice. Written out so that a seed means the same on every platform and in every version of a library.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

/// True in a share of `probability` of all cases, 0 to 1. Draws nothing where it is certain, so that a link without
/// faults does not disturb the dice of others.
pub(crate) fn happens(rng: &mut ChaCha12Rng, probability: f64) -> bool {
    probability > 0.0 && (probability >= 1.0 || f64::from(rng.next_u32()) < probability * 4_294_967_296.0)
}

/// Anything from nothing to `most`, whole microseconds.
pub(crate) fn up_to(rng: &mut ChaCha12Rng, most: Duration) -> Duration {
    if most.is_zero() {
        return Duration::ZERO;
    }
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(rng.next_u64() % (most + 1))
}

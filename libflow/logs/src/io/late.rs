//! A daemon that could not do what was due.

use std::time::{Duration, Instant};

/// Later than by so much no busy machine is: it was paused, or the process was stopped.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// Warns where what was due at `due` is done `now` only: who waited has waited in vain, and their errors name others.
pub fn note_late(due: Option<Instant>, now: Instant) {
    let late = due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
    if late >= STOOD_STILL {
        tracing::warn!(
            "this process stood still for {:.1} s: the machine was paused, or had no time for it; flows that were asked for \
             meanwhile failed late, whatever their errors say",
            late.as_secs_f64()
        );
    }
}

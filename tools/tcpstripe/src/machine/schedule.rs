//! Which track takes the next chunk.

use std::time::Duration;

use super::TrackId;
use crate::said::rule::Policy;

/// What counts of a track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) track: TrackId,
    /// It takes chunks: it is there, and not given up.
    pub(super) alive: bool,
    /// Its send window has room, and its writer none under way.
    pub(super) free: bool,
    pub(super) rtt: Option<Duration>,
}

/// Whether `track`, whose writer asks, takes the next chunk. `turn`: which took the last.
pub(super) fn may_take(
    policy: Policy,
    turn: Option<TrackId>,
    track: TrackId,
    all: impl Iterator<Item = Candidate> + Clone,
) -> bool {
    let mut alive = all.clone().filter(|candidate| candidate.alive);
    let Some(own) = alive.clone().find(|candidate| candidate.track == track && candidate.free) else { return false };
    match policy {
        // Who asks is free; who is not does not ask.
        Policy::FirstFree | Policy::Redundant => true,
        Policy::LowestRtt => {
            let known = |candidate: &Candidate| candidate.rtt.unwrap_or(Duration::ZERO);
            !alive.any(|other| other.free && known(&other) < known(&own))
        }
        Policy::RoundRobin => {
            let behind = alive.clone().find(|other| turn.is_some_and(|turn| other.track > turn));
            behind.or_else(|| alive.next()).is_some_and(|next| next.track == track)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_the_next() {
        let candidate = |track, alive, free, ms| Candidate {
            track: TrackId(track),
            alive,
            free,
            rtt: Some(Duration::from_millis(ms)),
        };
        let all = [
            candidate(1, true, true, 20),
            candidate(2, true, true, 80),
            candidate(3, false, true, 5),
            candidate(4, true, false, 10),
        ];
        let takers = |policy, turn: Option<u32>| -> Vec<u32> {
            let takes = |track: &u32| may_take(policy, turn.map(TrackId), TrackId(*track), all.iter().copied());
            (1..=4).filter(takes).collect()
        };
        assert_eq!(takers(Policy::FirstFree, None), [1, 2]);
        assert_eq!(takers(Policy::Redundant, None), [1, 2]);
        assert_eq!(takers(Policy::LowestRtt, None), [1], "4 is faster and has no room");
        assert_eq!(takers(Policy::RoundRobin, None), [1]);
        assert_eq!(takers(Policy::RoundRobin, Some(1)), [2]);
        assert_eq!(takers(Policy::RoundRobin, Some(2)), [0; 0], "it is 4's turn, who has no room");
        assert_eq!(takers(Policy::RoundRobin, Some(4)), [1]);
    }
}

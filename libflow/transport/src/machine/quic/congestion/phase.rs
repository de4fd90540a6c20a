//! From phase to phase: when more is tried, and when the round trip is looked for.

use std::time::{Duration, Instant};

use super::rate::Sample;
use super::{Bbr, PLATEAU_ROUNDS, PROBE_RTT_GAIN, UP_GAIN};

/// A look for more goes on while the bandwidth grows by so much in this many rounds.
const UP_GROWTH: f64 = 1.05;
const UP_ROUNDS: u32 = 2;
const PROBE_RTT_FOR: Duration = Duration::from_millis(200);
/// Between two looks for more bandwidth: this, and up to a second more, or so many rounds as a Reno flow needs to
/// grow by as much. (The draft's two to three seconds let who comes late wait twice as long for its share.)
pub(super) const PROBE_AFTER: Duration = Duration::from_secs(1);
const PROBE_JITTER_MS: u64 = 1000;
pub(super) const RENO_ROUNDS: u64 = 62;

/// What the sender is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Doubles its rate each round trip.
    Startup,
    /// Empties the queue that this made.
    Drain,
    /// A little less than the path bears: what stands in the queue goes.
    Down,
    /// As much as the path bears.
    Cruise,
    /// The same with a full window, before more is tried.
    Refill,
    /// More than the path was found to bear.
    Up,
    /// Half of it, to see the round trip without a queue.
    ProbeRtt,
}

impl Bbr {
    /// From phase to phase.
    pub(super) fn go_on(&mut self, now: Instant, round: bool, sample: &Sample) {
        let in_flight = self.rate.in_flight;
        match self.phase {
            Phase::Startup if self.found => self.enter(now, Phase::Drain),
            Phase::Drain if in_flight <= self.times(1.0) || self.rounds > self.since.1 + 3 => self.down(now),
            Phase::Down | Phase::Cruise if self.time_to_look(now) => {
                (self.short_rate, self.short_window) = (None, None);
                self.round.until = self.rate.delivered;
                self.enter(now, Phase::Refill);
            }
            Phase::Down if in_flight <= self.times(1.0).min(self.roomy()) => self.enter(now, Phase::Cruise),
            Phase::Refill if round => {
                self.looking = true;
                self.full = (self.bandwidth.get(), 0);
                self.round.until = self.rate.delivered;
                self.enter(now, Phase::Up);
            }
            Phase::Up => self.look_up(now, round, sample),
            _ => {}
        }
    }

    /// More than the path was found to bear, for as long as more is found.
    fn look_up(&mut self, now: Instant, round: bool, sample: &Sample) {
        if let Some(bound) = self.long_window {
            // What went well is allowed; and while the bound is what holds it, twice as much more in each round.
            let more = match round && self.window >= bound {
                true => self.packet << (self.rounds - self.since.1).min(16),
                false => 0,
            };
            self.long_window = Some(bound.max(sample.in_flight) + more);
        }
        if !round {
            return;
        }
        if self.grew(UP_GROWTH) {
            return;
        }
        if self.long_window.is_some_and(|bound| self.window >= bound) {
            // It was this sender's own bound that held it.
            self.full = (self.bandwidth.get().max(self.full.0), 0);
            return;
        }
        let filled = self.rate.in_flight >= self.times(UP_GAIN);
        if self.full.1 >= if filled { UP_ROUNDS } else { PLATEAU_ROUNDS } {
            self.down(now);
        }
    }

    pub(super) fn down(&mut self, now: Instant) {
        self.bandwidth.next_cycle();
        self.looking = false;
        self.cycle = (now, self.rounds);
        let wait = PROBE_AFTER + Duration::from_millis(self.chosen(PROBE_JITTER_MS));
        self.next_up = (wait, RENO_ROUNDS + self.chosen(2));
        self.round.until = self.rate.delivered;
        self.enter(now, Phase::Down);
    }

    fn enter(&mut self, now: Instant, phase: Phase) {
        self.phase = phase;
        self.since = (now, self.rounds);
    }

    fn time_to_look(&self, now: Instant) -> bool {
        let reno = (self.target() / self.packet).min(self.next_up.1).max(1);
        now.saturating_duration_since(self.cycle.0) > self.next_up.0 || self.rounds >= self.cycle.1 + reno
    }

    /// Looks for the round trip, if it is in doubt.
    pub(super) fn probe_rtt(&mut self, now: Instant, round: bool, doubtful: bool) {
        if self.phase != Phase::ProbeRtt {
            if doubtful {
                self.window_before = self.window.max(self.window_before);
                self.probe_rtt_until = None;
                self.looking = false;
                self.enter(now, Phase::ProbeRtt);
            }
            return;
        }
        match self.probe_rtt_until {
            None if self.rate.in_flight <= self.times(PROBE_RTT_GAIN) => {
                self.probe_rtt_until = Some(now + PROBE_RTT_FOR);
                self.round.until = self.rate.delivered;
            }
            Some(until) if now >= until && round => {
                self.min_rtt.looked(now);
                self.window = self.window.max(std::mem::take(&mut self.window_before));
                (self.short_rate, self.short_window) = (None, None);
                match self.found {
                    true => {
                        self.down(now);
                        self.enter(now, Phase::Cruise);
                    }
                    false => self.enter(now, Phase::Startup),
                }
            }
            _ => {}
        }
    }
}

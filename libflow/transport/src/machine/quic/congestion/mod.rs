//! How much a stream flow may send: bandwidth and round trip are measured, after BBR version 3 (draft-ietf-ccwg-bbr), with
//! one difference that decides what a lossy path is worth: **loss is a sign of congestion only where it comes with a queue
//! or is much more than the path loses anyway** (docs/decisions/0028). The draft cuts its rate after every round with a lost
//! packet, and never gets it back where one in a hundred is lost by chance.
//!
//! Units: bytes, bytes per second.

mod moved;
mod path;
mod phase;
mod rate;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::time::{Duration, Instant};

use path::{Bandwidth, Chance, Heap, MinRtt};
use phase::{PROBE_AFTER, Phase, RENO_ROUNDS};
use rate::{Rate, Sample};

const LEAST_WINDOW: u64 = 4;
/// Doubles the rate each round trip, just so: 4 ln 2.
const STARTUP_GAIN: f64 = 2.773;
const DRAIN_GAIN: f64 = 0.5;
const UP_GAIN: f64 = 1.25;
const DOWN_GAIN: f64 = 0.9;
const WINDOW_GAIN: f64 = 2.0;
const UP_WINDOW_GAIN: f64 = 2.25;
const PROBE_RTT_GAIN: f64 = 0.5;
/// Times the share that is missing of what should be under way.
const HASTE: f64 = 4.0;
/// Just below what the path bears, so that no queue stays.
const MARGIN: f64 = 0.99;
/// Of what was too much, this is kept.
const BETA: f64 = 0.7;
/// Of what others may find too much, this is left to them.
const HEADROOM: f64 = 0.15;
/// Lost beyond chance, this share of what is under way is too much, where packets stand in a queue.
const LOSS_SHARE: f64 = 0.02;
/// And this wherever: a queue too short to be seen.
const LOSS_SHARE_UNSEEN: f64 = 0.1;
/// The bandwidth is found when it has not grown by a quarter for three rounds.
const GROWTH: f64 = 1.25;
const PLATEAU_ROUNDS: u32 = 3;
/// Or when so many packets of a round are lost, and that is too much.
const STARTUP_LOSSES: f64 = 6.0;
const LARGEST_BURST: u64 = 64 << 10;

/// What one round (from a packet to its acknowledgement) saw.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// It ends when so much is delivered.
    until: u64,
    delivered: u64,
    lost: u64,
    least_rtt: Option<Duration>,
    best_rate: f64,
    most_delivered: u64,
    marked: bool,
}

/// A congestion controller. Its owner tells it of packets, and asks it for a window and a pacing rate.
#[derive(Clone, Debug)]
pub(crate) struct Bbr {
    packet: u64,
    rate: Rate,
    /// The first packet that took the path as it is now.
    first: u64,
    phase: Phase,
    bandwidth: Bandwidth,
    min_rtt: MinRtt,
    chance: Chance,
    round: Round,
    rounds: u64,
    /// Bounds from congestion: for this cycle, and for longer.
    short_rate: Option<f64>,
    short_window: Option<u64>,
    long_window: Option<u64>,
    /// The bandwidth when it grew last, in Startup and in Up, and for how many rounds it has not since.
    full: (f64, u32),
    found: bool,
    /// Since when, in which round, the phase is what it is.
    since: (Instant, u64),
    /// When, and in which round, the next look for more is due.
    next_up: (Duration, u64),
    cycle: (Instant, u64),
    /// This look for more has not yet been found too much.
    looking: bool,
    /// The rest of ProbeRtt.
    probe_rtt_until: Option<Instant>,
    window_before: u64,
    heap: Heap,
    last_rtt: Duration,
    window: u64,
    pacing: f64,
    random: u64,
}

impl Bbr {
    /// Packets before anything is known (RFC 9002).
    pub(crate) const FIRST_WINDOW: u64 = 10;

    /// A new one for packets of up to `packet` bytes; `random` decides when it looks for more bandwidth.
    pub(crate) fn new(now: Instant, packet: u16, random: u64) -> Self {
        let packet = u64::from(packet).max(1);
        let window = Self::FIRST_WINDOW * packet;
        Self {
            packet,
            rate: Rate::default(),
            first: 0,
            phase: Phase::Startup,
            bandwidth: Bandwidth::default(),
            min_rtt: MinRtt::default(),
            chance: Chance::default(),
            round: Round::default(),
            rounds: 0,
            short_rate: None,
            short_window: None,
            long_window: None,
            full: (0.0, 0),
            found: false,
            since: (now, 0),
            next_up: (PROBE_AFTER, RENO_ROUNDS),
            cycle: (now, 0),
            looking: false,
            probe_rtt_until: None,
            window_before: 0,
            heap: Heap::new(now),
            last_rtt: Duration::ZERO,
            window,
            // Nothing is known: as if the round trip were a millisecond.
            pacing: STARTUP_GAIN * window as f64 / 0.001,
            random: random | 1,
        }
    }

    /// Bytes that may be under way.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// Bytes per second.
    pub(crate) fn pacing(&self) -> f64 {
        self.pacing
    }

    /// Bytes that may be sent at once: a millisecond's.
    pub(crate) fn burst(&self) -> u64 {
        ((self.pacing / 1000.0) as u64).min(LARGEST_BURST).max(2 * self.packet)
    }

    /// What the path was found to bear; 0: nothing yet.
    pub(crate) fn bandwidth(&self) -> f64 {
        self.bandwidth.get()
    }

    pub(crate) fn sent(&mut self, now: Instant, number: u64, bytes: u64) {
        if self.rate.idle() {
            self.heap.again(now);
            if self.found && self.phase != Phase::ProbeRtt && self.usable() > 0.0 {
                self.pacing = self.usable() * MARGIN;
            }
        }
        self.rate.sent(now, number, bytes);
    }

    /// A packet was acknowledged. `acks_end` after the last of one acknowledgement.
    pub(crate) fn acked(&mut self, now: Instant, number: u64, bytes: u64) {
        if self.is_of_before(number) {
            return;
        }
        self.round.delivered += bytes;
        self.rate.acked(now, number, bytes);
    }

    /// All of one acknowledgement is told. `app_limited`: the program has nothing more to send.
    pub(crate) fn acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        let sample = self.rate.sample(now, self.min_rtt.get());
        self.rate.settle(in_flight, app_limited);
        let Some(sample) = sample else { return };
        let doubtful = self.min_rtt.doubtful(now);
        self.min_rtt.seen(now, sample.rtt);
        self.last_rtt = sample.rtt;
        let over = self.in_round(&sample);
        if let Some(round) = over {
            self.round_over(&round, sample.app_limited);
        }
        self.heap.seen(now, self.rounds, sample.acked, self.usable(), self.window);
        self.go_on(now, over.is_some(), &sample);
        self.probe_rtt(now, over.is_some(), doubtful);
        self.set(&sample);
    }

    pub(crate) fn lost(&mut self, now: Instant, number: u64, bytes: u64) {
        if self.is_of_before(number) {
            return;
        }
        self.round.lost += bytes;
        let Some(loss) = self.rate.lost(number, bytes) else { return };
        if self.looking && self.too_much(loss.lost, loss.in_flight, self.last_rtt) {
            self.looking = false;
            if !loss.app_limited {
                let before = loss.in_flight.saturating_sub(loss.bytes);
                self.long_window = Some(before.max((self.target() as f64 * BETA) as u64));
            }
            if self.phase == Phase::Up {
                self.down(now);
            }
        }
    }

    /// Packets came with the mark of a full queue (ECN).
    pub(crate) fn marked(&mut self) {
        self.round.marked = true;
    }

    /// All of a time longer than any round trip was lost: whatever the path was, it is another one.
    pub(crate) fn all_lost(&mut self) {
        self.window = LEAST_WINDOW * self.packet;
    }

    /// What was taken for lost came after all.
    pub(crate) fn none_lost(&mut self) {
        self.round.lost = 0;
        (self.short_rate, self.short_window) = (None, None);
    }

    /// The longest packet that the path carries, bytes.
    pub(crate) fn set_packet(&mut self, packet: u16) {
        self.packet = u64::from(packet).max(1);
        self.window = self.window.max(LEAST_WINDOW * self.packet);
    }

    /// Whether `lost` of `all` bytes is more than chance and what may be lost besides explain, behind a queue of this round trip.
    fn too_much(&self, lost: u64, all: u64, rtt: Duration) -> bool {
        let share = if self.min_rtt.queued(rtt) { LOSS_SHARE } else { LOSS_SHARE_UNSEEN };
        self.beyond_chance(lost, all, share)
    }

    /// Whether `lost` of `all` bytes is more than chance and a further `share` explain.
    fn beyond_chance(&self, lost: u64, all: u64, share: f64) -> bool {
        self.packets(lost) > self.chance.allows(self.packets(all), share)
    }

    fn packets(&self, bytes: u64) -> f64 {
        bytes as f64 / self.packet as f64
    }

    /// Takes a sample into its round; what that saw, if this ends it.
    fn in_round(&mut self, sample: &Sample) -> Option<Round> {
        if let Some(rate) = sample.rate {
            if !sample.app_limited || rate >= self.bandwidth.get() {
                self.bandwidth.seen(rate);
            }
            self.round.best_rate = self.round.best_rate.max(rate);
        }
        self.round.most_delivered = self.round.most_delivered.max(sample.delivered);
        let least = self.round.least_rtt.map_or(sample.rtt, |least| least.min(sample.rtt));
        self.round.least_rtt = Some(least);
        if sample.prior_delivered < self.round.until {
            return None;
        }
        let over = self.round;
        self.round = Round { until: self.rate.delivered, ..Round::default() };
        self.rounds += 1;
        Some(over)
    }

    /// The signs of congestion of a whole round.
    fn round_over(&mut self, round: &Round, app_limited: bool) {
        let queued = round.least_rtt.is_some_and(|rtt| self.min_rtt.queued(rtt));
        let (lost, all) = (round.lost, round.lost + round.delivered);
        let steady = matches!(self.phase, Phase::Drain | Phase::Down | Phase::Cruise | Phase::ProbeRtt);
        // A whole round in a queue forgives nothing beyond chance.
        let congested = self.beyond_chance(lost, all, if queued { 0.0 } else { LOSS_SHARE_UNSEEN });
        if steady && (congested || round.marked) {
            let rate = self.short_rate.unwrap_or(self.bandwidth.get()) * BETA;
            let window = (self.short_window.unwrap_or(self.window) as f64 * BETA) as u64;
            self.short_rate = Some(rate.max(round.best_rate));
            self.short_window = Some(window.max(round.most_delivered));
        }
        if self.phase == Phase::Startup && !self.found {
            self.plateau(app_limited);
            let overflow = self.packets(lost) >= STARTUP_LOSSES && self.too_much(lost, all, self.last_rtt);
            if overflow || round.marked {
                self.found = true;
                self.long_window = Some(self.times(1.0).max(round.most_delivered));
            }
        }
        // What is lost while this sender makes no queue is lost by chance.
        if !queued && (steady || self.phase == Phase::Startup) {
            self.chance.seen(self.packets(lost), self.packets(all));
        }
    }

    /// In Startup: whether the bandwidth still grows.
    fn plateau(&mut self, app_limited: bool) {
        if !app_limited && !self.grew(GROWTH) {
            self.found = self.full.1 >= PLATEAU_ROUNDS;
        }
    }

    /// Whether the bandwidth is so many times what it was when it grew last; counts the rounds in which it is not.
    fn grew(&mut self, times: f64) -> bool {
        let bandwidth = self.bandwidth.get();
        let grew = bandwidth >= self.full.0 * times;
        self.full = if grew { (bandwidth, 0) } else { (self.full.0, self.full.1 + 1) };
        grew
    }

    /// The rate, as far as this cycle's congestion leaves it.
    fn usable(&self) -> f64 {
        self.short_rate.unwrap_or(f64::INFINITY).min(self.bandwidth.get())
    }

    /// So many times what fills the path and no queue.
    fn times(&self, gain: f64) -> u64 {
        match self.min_rtt.get() {
            Some(rtt) if self.bandwidth.get() > 0.0 => {
                let product = self.bandwidth.get() * rtt.as_secs_f64();
                ((gain * product) as u64).max(LEAST_WINDOW * self.packet)
            }
            _ => Self::FIRST_WINDOW * self.packet,
        }
    }

    /// How much faster than the path a sender goes that has too little under way: one that was not woken in time makes up for it.
    fn haste(&self) -> f64 {
        let product = self.times(1.0) as f64;
        let lack = 1.0 - (self.rate.in_flight + self.burst()) as f64 / product;
        (HASTE * lack).clamp(0.0, 1.0)
    }

    fn target(&self) -> u64 {
        self.times(1.0).min(self.window)
    }

    /// What the long bound leaves beside the room for others.
    fn roomy(&self) -> u64 {
        let Some(bound) = self.long_window else { return u64::MAX };
        let room = ((bound as f64 * HEADROOM) as u64).max(self.packet);
        bound.saturating_sub(room).max(LEAST_WINDOW * self.packet)
    }

    /// Pacing rate and window.
    fn set(&mut self, sample: &Sample) {
        let (pacing, window) = match self.phase {
            Phase::Startup => (STARTUP_GAIN, WINDOW_GAIN),
            Phase::Drain => (DRAIN_GAIN, WINDOW_GAIN),
            Phase::Down => (DOWN_GAIN, WINDOW_GAIN),
            Phase::Cruise | Phase::Refill => (1.0 + self.haste(), WINDOW_GAIN),
            Phase::Up => (UP_GAIN, UP_WINDOW_GAIN),
            Phase::ProbeRtt => (1.0, PROBE_RTT_GAIN),
        };
        // Until the bandwidth is found, no slower than a slow start: of a first window that met a full queue little comes back.
        let started = self.window as f64 / WINDOW_GAIN / sample.rtt.as_secs_f64().max(0.001);
        let rate = match self.usable() {
            rate if !self.found || rate <= 0.0 => rate.max(started),
            rate => rate,
        };
        let rate = pacing * rate * MARGIN;
        if self.found || rate > self.pacing || self.rounds <= 1 {
            self.pacing = rate;
        }
        let heap = if self.phase == Phase::ProbeRtt { 0 } else { self.heap.get() };
        let most = self.times(window) + heap + self.burst();
        self.window = match self.found {
            true => (self.window + sample.acked).min(most),
            false if self.window < most || self.rate.delivered < Self::FIRST_WINDOW * self.packet => {
                self.window + sample.acked
            }
            false => self.window,
        };
        if self.phase == Phase::ProbeRtt {
            self.window = self.window.min(self.times(PROBE_RTT_GAIN));
        }
        let bound = match self.phase {
            Phase::Cruise | Phase::ProbeRtt => self.roomy(),
            Phase::Startup | Phase::Drain => u64::MAX,
            _ => self.long_window.unwrap_or(u64::MAX),
        };
        let bound = bound.min(self.short_window.unwrap_or(u64::MAX));
        self.window = self.window.min(bound).max(LEAST_WINDOW * self.packet);
    }

    /// A number below `bound`.
    fn chosen(&mut self, bound: u64) -> u64 {
        xorshift(&mut self.random) % bound
    }
}

/// Random enough that flows which began together do not stay in step.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

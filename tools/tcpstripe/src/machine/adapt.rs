//! How many tracks a client's bytes go over: more while that pays, fewer where it does not.
//!
//! It climbs by doubling: what a number of tracks brings is measured, then twice as many are tried, and kept if they bring a
//! quarter more. From time to time half as many are tried, and kept if they bring nearly as much. What did not pay is tried
//! again later and later. Who says nothing for a while keeps the least.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// More tracks pay if they bring so much more than fewer.
const PAYS: f64 = 1.25;
/// Fewer tracks are kept if they bring so much of what more did.
const KEEPS: f64 = 0.9;
/// A rate that fell below this share of what was reckoned with: it is another path now, and all is open again.
const FELL: f64 = 0.5;
/// After a change, until new tracks have found their rate; and how long a measurement takes: at least so long, and so many
/// round trips.
const SETTLE: (Duration, u32) = (Duration::from_millis(500), 10);
const MEASURE: (Duration, u32) = (Duration::from_secs(1), 10);
/// New tracks that are not there after this time will not come.
const OPEN: Duration = Duration::from_secs(10);
/// Bytes of a measurement that is worth a thought: below, a client only talks.
const LITTLE: u64 = 128 << 10;
/// The first pause before what did not pay is tried again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// Fewer are not tried before so long.
const CONTENT: Duration = Duration::from_secs(30);
/// Nobody says anything for so long: the least is enough.
const IDLE: Duration = Duration::from_secs(30);

/// What is seen of a group.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Tracks that are there.
    pub tracks: u16,
    /// Bytes that tracks have brought so far, both ways, as far as this end knows.
    pub moved: u64,
    /// Bytes wait for a track.
    pub waits: bool,
    /// The longest round trip of the tracks.
    pub rtt: Duration,
}

/// Another number of tracks, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// So many from now on.
    pub tracks: u16,
    /// In words, for a log.
    pub why: String,
}

/// What is tried: since when there are not `from` any more but what is wanted now.
#[derive(Clone, Copy, Debug)]
struct Trial {
    from: u16,
    rate: f64,
}

/// What goes on.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nobody says enough for a measurement.
    Quiet,
    /// Tracks are opened.
    Opening { until: Instant },
    /// They find their rate.
    Settling { until: Instant },
    /// Since when, from how many bytes on.
    Measuring { since: Instant, until: Instant, from: u64 },
}

/// When something is tried next.
#[derive(Clone, Copy, Debug)]
struct Next {
    at: Instant,
    pause: Duration,
}

impl Next {
    fn put_off(&mut self, now: Instant) {
        self.at = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}

/// Decides.
#[derive(Clone, Debug)]
pub struct Adapt {
    least: u16,
    most: u16,
    wanted: u16,
    phase: Phase,
    trial: Option<Trial>,
    /// What `wanted` brought when it was measured last, bytes per second.
    rate: Option<f64>,
    more: Next,
    fewer: Next,
    /// When bytes moved last, and how many had by then.
    moved: (Instant, u64),
    why: String,
}

impl Adapt {
    /// From `least` tracks on, to `most` at most.
    pub fn new(now: Instant, least: u16, most: u16) -> Self {
        Self {
            least,
            most: most.max(least),
            wanted: least,
            phase: Phase::Quiet,
            trial: None,
            rate: None,
            more: Next { at: now, pause: PAUSE.0 },
            fewer: Next { at: now + CONTENT, pause: CONTENT },
            moved: (now, 0),
            why: "the least, at first".to_owned(),
        }
    }

    /// Whether there is a choice.
    pub fn adapts(&self) -> bool {
        self.least < self.most
    }

    /// How many there should be.
    pub fn wanted(&self) -> u16 {
        self.wanted
    }

    /// Why there are so many.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// When to look again, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.adapts() {
            return None;
        }
        match self.phase {
            Phase::Quiet => (self.wanted > self.least).then_some(self.moved.0 + IDLE),
            Phase::Opening { until } | Phase::Settling { until } | Phase::Measuring { until, .. } => Some(until),
        }
    }

    /// What is seen now, as often as you like; another number where it is time for one.
    pub fn look(&mut self, now: Instant, seen: Reading) -> Option<Change> {
        if seen.moved > self.moved.1 || seen.waits {
            self.moved = (now, seen.moved);
        } else if self.wanted > self.least && now >= self.moved.0 + IDLE {
            return self.rest(now);
        }
        match self.phase {
            Phase::Quiet => {
                if self.moved.0 == now {
                    self.measure(now, seen);
                }
                None
            }
            Phase::Opening { .. } if seen.tracks >= self.wanted => {
                self.phase = Phase::Settling { until: now + at_least(SETTLE, seen.rtt) };
                None
            }
            Phase::Opening { until } => (now >= until).then(|| self.give_up_opening(now, seen)),
            Phase::Settling { until } => {
                if now >= until {
                    self.measure(now, seen);
                }
                None
            }
            Phase::Measuring { since, until, from } if now >= until => self.judge(now, seen, since, from),
            Phase::Measuring { .. } => None,
        }
    }

    fn measure(&mut self, now: Instant, seen: Reading) {
        self.phase = Phase::Measuring { since: now, until: now + at_least(MEASURE, seen.rtt), from: seen.moved };
    }

    /// A measurement is over.
    fn judge(&mut self, now: Instant, seen: Reading, since: Instant, from: u64) -> Option<Change> {
        let moved = seen.moved - from;
        let rate = moved as f64 / now.saturating_duration_since(since).as_secs_f64();
        if moved < LITTLE {
            self.phase = Phase::Quiet;
            // Nothing is known of what was tried: as before.
            let trial = self.trial.take()?;
            return self.change(now, trial.from, "the client has little to say".to_owned());
        }
        match self.trial.take() {
            Some(trial) if self.wanted > trial.from => self.judge_more(now, seen, rate, trial),
            Some(trial) => self.judge_fewer(now, seen, rate, trial),
            None => {
                if self.rate.is_some_and(|before| rate < before * FELL) {
                    (self.more.at, self.more.pause) = (now, PAUSE.0);
                }
                self.rate = Some(rate);
                self.go_on(now, seen)
            }
        }
    }

    fn judge_more(&mut self, now: Instant, seen: Reading, rate: f64, trial: Trial) -> Option<Change> {
        let words = format!("{} brought {} Mbit/s, {} bring {}", trial.from, mbit(trial.rate), self.wanted, mbit(rate));
        if rate >= trial.rate * PAYS {
            (self.rate, self.why) = (Some(rate), words);
            self.fewer.at = now + self.fewer.pause;
            return self.go_on(now, seen);
        }
        self.rate = Some(trial.rate);
        self.more.put_off(now);
        self.change(now, trial.from, words)
    }

    fn judge_fewer(&mut self, now: Instant, seen: Reading, rate: f64, trial: Trial) -> Option<Change> {
        let words = format!("{} brought {} Mbit/s, {} bring {}", trial.from, mbit(trial.rate), self.wanted, mbit(rate));
        if rate >= trial.rate * KEEPS {
            (self.rate, self.why) = (Some(rate), words);
            self.more.put_off(now);
            return self.go_on(now, seen);
        }
        self.rate = Some(trial.rate);
        self.fewer.put_off(now);
        self.change(now, trial.from, words)
    }

    /// A rate is known: is there something to try?
    fn go_on(&mut self, now: Instant, seen: Reading) -> Option<Change> {
        let rate = self.rate?;
        let try_next = if self.wanted < self.most && now >= self.more.at {
            Some((self.wanted.saturating_mul(2).min(self.most), "more"))
        } else if self.wanted > self.least && now >= self.fewer.at {
            Some(((self.wanted / 2).max(self.least), "fewer"))
        } else {
            None
        };
        let Some((tracks, what)) = try_next else {
            self.measure(now, seen);
            return None;
        };
        let from = self.wanted;
        self.trial = Some(Trial { from, rate });
        self.change(now, tracks, format!("{from} bring {} Mbit/s; trying {what}", mbit(rate)))
    }

    fn change(&mut self, now: Instant, tracks: u16, why: String) -> Option<Change> {
        (self.wanted, self.why) = (tracks, why.clone());
        self.phase = Phase::Opening { until: now + OPEN };
        Some(Change { tracks, why })
    }

    fn give_up_opening(&mut self, now: Instant, seen: Reading) -> Change {
        self.trial = None;
        self.more.put_off(now);
        let tracks = seen.tracks.clamp(self.least, self.wanted);
        let why = format!("{} were not to be had", self.wanted);
        (self.wanted, self.why, self.rate) = (tracks, why.clone(), None);
        self.measure(now, seen);
        Change { tracks, why }
    }

    fn rest(&mut self, now: Instant) -> Option<Change> {
        (self.trial, self.rate) = (None, None);
        (self.more, self.fewer) = (Next { at: now, pause: PAUSE.0 }, Next { at: now + CONTENT, pause: CONTENT });
        let change = self.change(now, self.least, format!("nothing was said for {} s", IDLE.as_secs()));
        self.phase = Phase::Quiet;
        change
    }
}

fn at_least((time, round_trips): (Duration, u32), rtt: Duration) -> Duration {
    time.max(rtt * round_trips)
}

fn mbit(rate: f64) -> String {
    match rate * 8.0 / 1e6 {
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests;

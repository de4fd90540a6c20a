//! When to send, and what a reply means.
//!
//! Inputs: [`Ping::handle_timeout`] (early and repeated calls do nothing), [`Ping::handle_sdu`], [`Ping::stop`].
//! Outputs: [`Ping::poll_output`] until it is empty, [`Ping::poll_timeout`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sdu::{self, Header};
use super::stats::Stats;
use super::window::{Seen, Window, whole};

/// With an interval of 0: how long an unanswered SDU holds up the next.
const FLOOD_GAP: Duration = Duration::from_millis(10);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many SDUs; `None`: until stopped.
    pub count: Option<u64>,
    /// Time between two; zero: the next when the last was answered.
    pub interval: Duration,
    /// How long a reply may take.
    pub wait: Duration,
}

/// What the owner shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send an SDU with this header.
    Send(Header),
    /// Tell of a reply.
    Reply(Reply),
    /// Nothing is left to do.
    Done,
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Of which SDU, from 1.
    pub seq: u64,
    /// Its size.
    pub bytes: usize,
    /// Since the SDU was sent.
    pub rtt: Duration,
    /// The SDU was answered before.
    pub duplicate: bool,
    /// It took longer than the plan's `wait`.
    pub late: bool,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// SDUs sent.
    pub sent: u64,
    /// SDUs answered, in time or late.
    pub received: u64,
    /// Answers to SDUs that were answered before.
    pub duplicates: u64,
    /// First answers that took longer than the plan's `wait`; part of `received`.
    pub late: u64,
    /// SDUs that answer nothing we remember to have sent.
    pub foreign: u64,
}

/// One run of pings.
#[derive(Debug)]
pub struct Ping {
    plan: Plan,
    start: Instant,
    next_send: Instant,
    last_sent: Instant,
    tally: Tally,
    stats: Stats,
    window: Window,
    outputs: VecDeque<Output>,
    done: bool,
}

impl Ping {
    /// Starts at `now`; the first SDU is due at once.
    pub fn new(now: Instant, plan: Plan) -> Self {
        Self {
            plan,
            start: now,
            next_send: now,
            last_sent: now,
            tally: Tally::default(),
            stats: Stats::default(),
            window: Window::default(),
            outputs: VecDeque::new(),
            done: false,
        }
    }

    /// When to call [`Self::handle_timeout`]; `None` when done.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = if self.all_sent() { self.last_sent + self.plan.wait } else { self.next_send };
        (!self.done).then_some(due)
    }

    /// What to do next; `None` for now.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.done {
        } else if !self.all_sent() {
            if now >= self.next_send {
                self.send(now);
            }
        } else if now >= self.last_sent + self.plan.wait {
            self.finish();
        }
    }

    fn send(&mut self, now: Instant) {
        self.tally.sent += 1;
        let seq = self.tally.sent;
        self.window.open(seq);
        let sent_at = now.saturating_duration_since(self.start);
        self.outputs.push_back(Output::Send(Header { seq: seq as u32, sent_at }));
        self.last_sent = now;
        // A late timer shifts the rhythm by up to an interval; it never makes a burst.
        let gap = if self.plan.interval.is_zero() { FLOOD_GAP } else { self.plan.interval };
        self.next_send = if now - self.next_send > gap { now + gap } else { self.next_send + gap };
        if self.plan.interval.is_zero() {
            self.next_send = now + gap;
        }
    }

    /// An SDU arrived.
    pub fn handle_sdu(&mut self, now: Instant, bytes: &[u8]) {
        if self.done {
            return;
        }
        let Some(mut reply) = self.read(now, bytes) else {
            self.tally.foreign += 1;
            return;
        };
        match self.window.mark(reply.seq, self.tally.sent) {
            Seen::Forgotten => {
                self.tally.foreign += 1;
                return;
            }
            Seen::Again => {
                reply.duplicate = true;
                self.tally.duplicates += 1;
            }
            Seen::First => {
                self.tally.received += 1;
                self.tally.late += u64::from(reply.late);
                self.stats.record(reply.rtt);
            }
        }
        self.outputs.push_back(Output::Reply(reply));
        if self.all_sent() && self.tally.received == self.tally.sent {
            self.finish();
        } else if self.plan.interval.is_zero() && reply.seq == self.tally.sent {
            self.next_send = now;
        }
    }

    fn read(&self, now: Instant, bytes: &[u8]) -> Option<Reply> {
        let header = sdu::read(bytes)?;
        let seq = whole(header.seq, self.tally.sent).filter(|seq| *seq > 0)?;
        let rtt = now.saturating_duration_since(self.start).checked_sub(header.sent_at)?;
        Some(Reply { seq, bytes: bytes.len(), rtt, duplicate: false, late: rtt > self.plan.wait })
    }

    /// Ends the run: the user had enough, or the flow is gone.
    pub fn stop(&mut self) {
        if !self.done {
            self.finish();
        }
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Round-trip times so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn all_sent(&self) -> bool {
        self.plan.count.is_some_and(|count| self.tally.sent >= count)
    }

    fn finish(&mut self) {
        self.done = true;
        self.outputs.push_back(Output::Done);
    }
}

#[cfg(test)]
#[path = "ping_tests.rs"]
mod tests;

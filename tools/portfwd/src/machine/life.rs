//! One connection's life: its two ways, how they end, and what each side is to be told of it.
//!
//! | happens | then |
//! |---|---|
//! | a side ends (FIN, a finished stream) | what it said is written, then the other side is told the end; the other way goes on |
//! | both have ended, and have been told | it is over, cleanly |
//! | reading from a side fails | all it said has been written by then: it is over, the other side is reset |
//! | writing to a side fails, or its reset is noticed | what the other side says goes nowhere and is read no more; what this one said before is still delivered, then the other side is reset |
//! | … and the other side takes nothing of it for [`LAST_WORDS`] | it is over, the other side is reset |
//! | an end is read of a side that is known to be broken | that is no end: it is over, the other side is reset |
//! | nothing goes either way for longer than the rule allows | it is over, both sides are reset |
//!
//! So a reset comes out as a reset, after the bytes that came before it, and never as an end.

use std::time::{Duration, Instant};

use proto::forward::Broken;

use super::cause::Cause;

/// How long a side that takes nothing holds up the news that the other one is broken. Who is blocked in writing to that one
/// may never read what came before.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who connected.
    Client,
    /// Whom it was connected to.
    Target,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Target];

    /// The one across.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Target,
            Self::Target => Self::Client,
        }
    }

    /// 0 or 1.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What is to be done with what a side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Read it, write it to the other side.
    Carry,
    /// No more is to be read: write what is left, then call [`Life::written`].
    Deliver,
    /// Nothing: watch whether the side breaks.
    Watch,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides ended, both were told.
    Clean,
    /// One broke, or this forwarder ended it: reset both with it.
    Broken {
        /// Which one; `None`: neither did.
        by: Option<Side>,
        /// Why.
        cause: Cause,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Its end was read.
    Ending,
    /// And told.
    Ended,
    /// Nobody takes it any more.
    Dead,
}

/// One connection.
#[derive(Debug)]
pub struct Life {
    /// By the side that speaks.
    ways: [Way; 2],
    broken: Option<(Option<Side>, Cause)>,
    over: bool,
    /// Until when the last words of a broken side are to move.
    due: Option<Instant>,
    idle: Option<Idle>,
}

#[derive(Debug)]
struct Idle {
    limit: Duration,
    since: Instant,
}

impl Life {
    /// A connection that begins now; it may be idle for so long.
    pub fn new(now: Instant, idle: Option<Duration>) -> Self {
        let idle = idle.map(|limit| Idle { limit, since: now });
        Self { ways: [Way::Open; 2], broken: None, over: false, due: None, idle }
    }

    /// What is to be done with what `side` says.
    pub fn work(&self, side: Side) -> Work {
        match self.ways[side.index()] {
            Way::Open => Work::Carry,
            Way::Ending => Work::Deliver,
            Way::Ended | Way::Dead => Work::Watch,
        }
    }

    /// Whether [`Self::progress`] has anything to do.
    pub fn counts_time(&self) -> bool {
        self.idle.is_some() || self.due.is_some()
    }

    /// Bytes were read or written.
    pub fn progress(&mut self, now: Instant) {
        if let Some(idle) = &mut self.idle {
            idle.since = now;
        }
        if self.due.is_some() {
            self.due = Some(now + LAST_WORDS);
        }
    }

    /// The end of what `side` says was read.
    pub fn read_end(&mut self, side: Side) {
        if self.ways[side.index()] == Way::Open {
            if self.is_broken(side) {
                self.over = true;
            } else {
                self.ways[side.index()] = Way::Ending;
            }
        }
    }

    /// All that `side` said is written. True: now the other one is to be told that this was the end, and then
    /// [`Self::told`] to be called.
    pub fn written(&mut self, side: Side) -> bool {
        let ending = self.ways[side.index()] == Way::Ending;
        self.over |= ending && self.is_broken(side);
        ending && !self.over
    }

    /// When the other side is told that `side` has ended, all is over.
    pub fn is_last(&self, side: Side) -> bool {
        self.ways[side.other().index()] == Way::Ended
    }

    /// The other side was told that `side` has ended.
    pub fn told(&mut self, side: Side) {
        if self.ways[side.index()] == Way::Ending {
            self.ways[side.index()] = Way::Ended;
            // The other side may be broken: there was only this to be said.
            self.over |= self.broken.is_some() || self.ways[side.other().index()] == Way::Ended;
        }
    }

    /// Reading from `side` failed, after all that it said had been written.
    pub fn read_failed(&mut self, side: Side, cause: Cause) {
        self.broken.get_or_insert((Some(side), cause));
        self.over = true;
    }

    /// Writing to `side` failed, or it was noticed to be broken. What it said before may still be there to be read.
    pub fn failed(&mut self, now: Instant, side: Side, cause: Cause) {
        if self.is_broken(side) {
            return;
        }
        self.over |= self.broken.is_some();
        self.broken.get_or_insert((Some(side), cause));
        self.ways[side.other().index()] = Way::Dead;
        match self.ways[side.index()] {
            Way::Open | Way::Ending => self.due = Some(now + LAST_WORDS),
            Way::Ended | Way::Dead => self.over = true,
        }
    }

    /// This forwarder ends it.
    pub fn cut(&mut self, cause: Cause) {
        self.broken.get_or_insert((None, cause));
        self.over = true;
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle = self.idle.as_ref().map(|idle| idle.since + idle.limit);
        self.due.into_iter().chain(idle).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.over = true;
        }
        if self.idle.as_ref().is_some_and(|idle| idle.since + idle.limit <= now) {
            self.cut(Cause::plain(Broken::Idle));
        }
    }

    /// How it ended; `None`: it goes on.
    pub fn outcome(&self) -> Option<Outcome> {
        self.over.then(|| match &self.broken {
            None => Outcome::Clean,
            Some((by, cause)) => Outcome::Broken { by: *by, cause: cause.clone() },
        })
    }

    /// It is over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn is_broken(&self, side: Side) -> bool {
        matches!(&self.broken, Some((Some(by), _)) if *by == side)
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;

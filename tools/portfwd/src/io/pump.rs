//! Moves a connection's bytes both ways, from its first to how it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use proto::forward::Broken;
use tokio::time::Sleep;

use super::live::Live;
use super::room::{self, PIPE, Pipe};
use super::wire::{LOOK, Wire};
use crate::machine::cause::Cause;
use crate::machine::life::{LAST_WORDS, Life, Outcome, Side, Work};

/// Reads before others have their turn.
const TURNS: usize = 16;
/// Reads in a row, of more than a trickle, that make a transfer worth a pipe.
const BULK: u8 = 2;
/// Less than that in one go, and it is worth none, bytes.
const TRICKLE: usize = 16 << 10;

/// Carries one connection: a future that ends with how it ended, when both wires are closed or reset. Dropped before, it
/// resets both.
pub(crate) struct Pump {
    life: Life,
    /// By side; none once it is closed.
    wires: [Option<Wire>; 2],
    /// What each side said and the other has not taken.
    held: [Held; 2],
    /// Large reads in a row, by who is read.
    bulk: [u8; 2],
    /// Whether what a side says may go through a pipe.
    splices: [bool; 2],
    live: Arc<Live>,
    timer: Option<Pin<Box<Sleep>>>,
    /// How it ended, while the far side of a flow is told.
    telling: Option<Outcome>,
}

enum Held {
    Nothing,
    Bytes { buffer: Box<[u8]>, from: usize, to: usize },
    Pipe { pipe: Pipe, len: usize },
}

/// What came of a turn.
enum Turn {
    Moved,
    Blocked,
}

impl Pump {
    /// `client` and `target` are connected to each other.
    pub(crate) fn new(client: Wire, target: Wire, live: Arc<Live>, now: Instant) -> Self {
        let life = Life::new(now, live.rule().options.idle_timeout);
        let splices = [client.fills() && target.drains(), target.fills() && client.drains()];
        let held = [Held::Nothing, Held::Nothing];
        Self {
            life,
            wires: [Some(client), Some(target)],
            held,
            bulk: [0; 2],
            splices,
            live,
            timer: None,
            telling: None,
        }
    }

    /// Ends it with a reset of both sides.
    fn end(&mut self, broken: Broken) {
        for wire in self.wires.iter_mut().filter_map(Option::take) {
            wire.reset(broken);
        }
        for held in &mut self.held {
            std::mem::replace(held, Held::Nothing).give_back();
        }
    }

    /// Closes both sides, or resets them: that of a flow behind what was written before, if it takes that soon.
    fn conclude(&mut self, outcome: Outcome, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Outcome::Broken { cause, .. } = &outcome else {
            self.wires = [None, None];
            return Poll::Ready(outcome);
        };
        let broken = cause.broken;
        for wire in &mut self.wires {
            if wire.as_mut().is_some_and(|wire| wire.poll_last_words(cx, broken).is_ready())
                && let Some(wire) = wire.take()
            {
                wire.reset(broken);
            }
        }
        if self.wires.iter().any(Option::is_some) && !self.is_late(cx) {
            self.telling = Some(outcome);
            return Poll::Pending;
        }
        self.end(broken);
        Poll::Ready(outcome)
    }

    /// The far side of a flow has had its time to take the last words.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.telling.is_none() {
            self.timer = Some(Box::pin(sleep_until(now() + LAST_WORDS)));
        }
        self.timer.as_mut().is_none_or(|timer| timer.as_mut().poll(cx).is_ready())
    }

    /// Has what `side` said go on its way. `Blocked`: its task will be woken.
    fn turn(&mut self, side: Side, cx: &mut Context<'_>) -> Turn {
        if !self.held[side.index()].is_empty() {
            return self.put(side, cx);
        }
        match self.life.work(side) {
            Work::Carry => self.take(side, cx),
            Work::Deliver if self.life.written(side) => self.finish(side, cx),
            Work::Deliver | Work::Watch => Turn::Blocked,
        }
    }

    /// Reads.
    fn take(&mut self, side: Side, cx: &mut Context<'_>) -> Turn {
        let index = side.index();
        let Some(wire) = &mut self.wires[index] else { return Turn::Blocked };
        let held = std::mem::replace(&mut self.held[index], Held::Nothing);
        let piped = match held {
            Held::Pipe { pipe, .. } if self.bulk[index] >= BULK => Some(pipe),
            held => {
                held.give_back();
                (self.splices[index] && self.bulk[index] >= BULK).then(Pipe::take).flatten()
            }
        };
        let (read, held) = match piped {
            Some(pipe) => {
                let read = wire.poll_fill(cx, pipe.writer(), PIPE);
                let len = if let Poll::Ready(Ok(len)) = &read { *len } else { 0 };
                if len < TRICKLE {
                    self.bulk[index] = 0;
                }
                (read, Held::Pipe { pipe, len })
            }
            None => {
                let mut buffer = room::buffer();
                let read = wire.poll_read(cx, &mut buffer);
                let len = if let Poll::Ready(Ok(len)) = &read { *len } else { 0 };
                self.bulk[index] = if len >= TRICKLE { self.bulk[index].saturating_add(1) } else { 0 };
                (read, Held::Bytes { buffer, from: 0, to: len })
            }
        };
        match read {
            Poll::Ready(Ok(len)) if len > 0 => {
                self.held[index] = held;
                self.live.carried(side, len as u64);
                return self.put(side, cx);
            }
            Poll::Ready(Ok(_)) => self.life.read_end(side),
            Poll::Ready(Err(cause)) => self.life.read_failed(side, cause),
            Poll::Pending => {
                held.give_back();
                return Turn::Blocked;
            }
        }
        held.give_back();
        Turn::Moved
    }

    /// Writes what is held.
    fn put(&mut self, side: Side, cx: &mut Context<'_>) -> Turn {
        let Some(wire) = &mut self.wires[side.other().index()] else { return Turn::Blocked };
        let held = &mut self.held[side.index()];
        let written = match held {
            Held::Nothing => return Turn::Moved,
            Held::Bytes { buffer, from, to } => wire.poll_write(cx, &buffer[*from..*to]),
            Held::Pipe { pipe, len } => wire.poll_drain(cx, pipe.reader(), *len),
        };
        match written {
            Poll::Ready(Ok(0)) => {
                let cause = Cause::said(Broken::Failed, "it takes nothing");
                self.lost(side, cause);
            }
            Poll::Ready(Ok(len)) => {
                held.taken(len);
                if self.life.counts_time() {
                    self.life.progress(now());
                }
            }
            Poll::Ready(Err(cause)) => self.lost(side, cause),
            Poll::Pending => return Turn::Blocked,
        }
        Turn::Moved
    }

    /// Nobody takes any more what `side` says.
    fn lost(&mut self, side: Side, cause: Cause) {
        std::mem::replace(&mut self.held[side.index()], Held::Nothing).give_back();
        self.life.failed(now(), side.other(), cause);
    }

    /// Tells the other side the end.
    fn finish(&mut self, side: Side, cx: &mut Context<'_>) -> Turn {
        let Some(wire) = &mut self.wires[side.other().index()] else { return Turn::Blocked };
        if self.life.is_last(side) && wire.ends_at_close() {
            self.life.told(side);
            return Turn::Moved;
        }
        match wire.poll_finish(cx) {
            Poll::Ready(Ok(())) => self.life.told(side),
            Poll::Ready(Err(cause)) => self.life.failed(now(), side.other(), cause),
            Poll::Pending => return Turn::Blocked,
        }
        Turn::Moved
    }

    /// Watches sides that are not read. True: one has to be looked at again.
    fn watch(&mut self, cx: &mut Context<'_>) -> bool {
        let mut again = false;
        for side in Side::BOTH {
            let Some(wire) = &mut self.wires[side.index()] else { continue };
            // What is layered may hold something back.
            if let Poll::Ready(Err(cause)) = wire.poll_flush(cx) {
                self.life.failed(now(), side, cause);
                continue;
            }
            let read = self.life.work(side) == Work::Carry && self.held[side.index()].is_empty();
            if read {
                continue;
            }
            match wire.poll_broken(cx) {
                Poll::Ready(cause) => self.life.failed(now(), side, cause),
                Poll::Pending => again |= wire.is_looked_at(),
            }
        }
        again
    }

    /// Has the timer wake us when there is something to do. True: that is now.
    fn wait(&mut self, look: bool, cx: &mut Context<'_>) -> bool {
        if !look && !self.life.counts_time() {
            return false;
        }
        let now = now();
        self.life.handle_timeout(now);
        let due = self.life.poll_timeout().into_iter().chain(look.then(|| now + LOOK)).min();
        let Some(due) = due.filter(|_| !self.life.is_over()) else { return self.life.is_over() };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // A timer that is early is set anew when it goes off; only one that would be late is moved.
        if timer.deadline() > due.into() || timer.is_elapsed() {
            timer.as_mut().reset(due.into());
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

impl Future for Pump {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        if let Some(outcome) = this.telling.clone() {
            return this.conclude(outcome, cx);
        }
        for _ in 0..TURNS {
            let mut moved = false;
            for side in Side::BOTH {
                moved |= !this.life.is_over() && matches!(this.turn(side, cx), Turn::Moved);
            }
            if !moved {
                let look = this.watch(cx);
                // What broke may have left something to be done.
                if !this.life.is_over() && !this.wait(look, cx) && !this.life.is_over() {
                    return Poll::Pending;
                }
            }
            if let Some(outcome) = this.life.outcome() {
                return this.conclude(outcome, cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.end(Broken::Stopped);
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        match self {
            Self::Nothing | Self::Pipe { len: 0, .. } => true,
            Self::Bytes { from, to, .. } => from == to,
            Self::Pipe { .. } => false,
        }
    }

    /// So much of it was written. A buffer that is empty is given back; a pipe is kept for what comes next.
    fn taken(&mut self, taken: usize) {
        match self {
            Self::Nothing => {}
            Self::Bytes { from, .. } => *from += taken,
            Self::Pipe { len, .. } => *len = len.saturating_sub(taken),
        }
        if matches!(&*self, Self::Bytes { from, to, .. } if from >= to) {
            std::mem::replace(self, Self::Nothing).give_back();
        }
    }

    fn give_back(self) {
        match self {
            Self::Nothing => {}
            Self::Bytes { buffer, .. } => room::give_back(buffer),
            Self::Pipe { pipe, len: 0 } => pipe.give_back(),
            // What is in it is nobody's: it ends with it.
            Self::Pipe { .. } => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "io reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn sleep_until(due: Instant) -> Sleep {
    tokio::time::sleep_until(due.into())
}

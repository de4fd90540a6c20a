//! All deadlines in one table, at most one per key.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use proto::{FlowId, Name};

use super::CallId;

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// An accept that waits.
    Accept(CallId),
    /// A flow that is not yet allocated.
    Flow(FlowId),
    /// An IPCP's next step: attach, start again, bootstrap again, stop.
    Ipcp(String),
    /// An IPCP's flows are to be compared with ours.
    Reconcile(String),
    /// A name's waiting flows: an accept is free for one, or a program is to be started.
    Name(Name),
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Timers {
    order: BTreeSet<(Instant, Timer)>,
    at: HashMap<Timer, Instant>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(old) = self.at.insert(timer.clone(), at) {
            self.order.remove(&(old, timer.clone()));
        }
        self.order.insert((at, timer));
    }

    /// Removes a deadline, if there is one.
    pub(super) fn clear(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.at.remove_entry(timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// The earliest deadline and what it is for.
    pub(super) fn next(&self) -> Option<(Instant, &Timer)> {
        self.order.first().map(|(at, timer)| (*at, timer))
    }

    /// Takes out the earliest deadline that has passed.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.order.first()?.0 > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.order.len(), self.at.len());
        self.order.len()
    }

    /// Whether there is none.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test draws one moment to count from")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_deadline_per_key_in_order() {
        let t0 = Instant::now();
        let at = |s| t0 + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set(Timer::Accept(CallId(1)), at(3));
        timers.set(Timer::Flow(FlowId(1)), at(1));
        timers.set(Timer::Accept(CallId(1)), at(2));
        assert_eq!(timers.len(), 2);
        assert_eq!(timers.pop(t0), None);
        assert_eq!(timers.pop(at(5)), Some(Timer::Flow(FlowId(1))));
        assert_eq!(timers.next(), Some((at(2), &Timer::Accept(CallId(1)))));
        timers.clear(&Timer::Accept(CallId(1)));
        timers.clear(&Timer::Accept(CallId(1)));
        assert!(timers.is_empty());
    }
}

//! Which flow carries a new connection, and when another flow is asked for.
//!
//! One flow carries as many connections as it may ([`ROOM`]); another is allocated when there is no room. One allocation is
//! under way at a time, for all who wait. A flow that is gone is forgotten; the next connection asks anew. Of those that carry
//! nothing one is kept, the rest end after [`SPARE`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::cause::Refusal;

/// Streams of one flow. libflow lets 1,024 be open; those that end count a moment longer at the far side.
pub const ROOM: u32 = 1000;
/// Connections that wait for a flow; more are refused.
pub const WAITING: usize = 8192;
/// How long a flow that is not needed is kept.
pub const SPARE: Duration = Duration::from_secs(60);

/// A flow of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey(pub u64);

/// A connection that wants a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Want(pub u64);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Allocate a flow; answer with [`Pool::allocated`] or [`Pool::refused`].
    Allocate,
    /// The connection has a place in this flow, until [`Pool::left`].
    Take(Want, FlowKey),
    /// The connection has none.
    Refuse(Want, Refusal),
    /// Nobody needs this flow.
    End(FlowKey),
}

#[derive(Debug)]
struct Carrier {
    key: FlowKey,
    carries: u32,
    /// It carries nothing since then.
    empty: Option<Instant>,
}

/// The flows to one name.
#[derive(Debug, Default)]
pub struct Pool {
    flows: Vec<Carrier>,
    waiting: VecDeque<Want>,
    allocating: bool,
    next: u64,
    effects: VecDeque<Effect>,
}

impl Pool {
    /// A connection wants a stream.
    pub fn wanted(&mut self, want: Want) {
        if self.waiting.len() >= WAITING {
            let words = "too many connections wait for a flow; see whether its name answers";
            let refusal = Refusal::here(proto::forward::Verdict::Exhausted, words);
            self.effects.push_back(Effect::Refuse(want, refusal));
            return;
        }
        self.waiting.push_back(want);
        self.seat();
    }

    /// A flow was allocated; its key.
    pub fn allocated(&mut self, now: Instant) -> FlowKey {
        let key = FlowKey(self.next);
        self.next += 1;
        self.allocating = false;
        self.flows.push(Carrier { key, carries: 0, empty: Some(now) });
        self.seat();
        key
    }

    /// None was: all who wait are told.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.allocating = false;
        let told = self.waiting.drain(..).map(|want| Effect::Refuse(want, refusal.clone()));
        self.effects.extend(told);
    }

    /// A connection that had a place is over.
    pub fn left(&mut self, now: Instant, key: FlowKey) {
        if let Some(flow) = self.flows.iter_mut().find(|flow| flow.key == key) {
            flow.carries = flow.carries.saturating_sub(1);
            if flow.carries == 0 {
                flow.empty = Some(now);
            }
        }
        self.seat();
    }

    /// The flow is over.
    pub fn gone(&mut self, key: FlowKey) {
        self.flows.retain(|flow| flow.key != key);
        self.seat();
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.spare().map(|(_, since)| since + SPARE).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<FlowKey> =
            self.spare().filter(|(_, since)| *since + SPARE <= now).map(|(flow, _)| flow.key).collect();
        for key in due {
            self.flows.retain(|flow| flow.key != key);
            self.effects.push_back(Effect::End(key));
        }
    }

    /// Flows there are, and connections that they carry.
    pub fn carried(&self) -> (usize, u64) {
        (self.flows.len(), self.flows.iter().map(|flow| u64::from(flow.carries)).sum())
    }

    /// Flows that carry nothing, but for the one that is kept: the first, so that the others become empty.
    fn spare(&self) -> impl Iterator<Item = (&Carrier, Instant)> {
        self.flows.iter().skip(1).filter_map(|flow| flow.empty.map(|since| (flow, since)))
    }

    fn seat(&mut self) {
        while let Some(want) = self.waiting.front() {
            let Some(flow) = self.flows.iter_mut().find(|flow| flow.carries < ROOM) else { break };
            flow.carries += 1;
            flow.empty = None;
            self.effects.push_back(Effect::Take(*want, flow.key));
            self.waiting.pop_front();
        }
        if !self.waiting.is_empty() && !self.allocating {
            self.allocating = true;
            self.effects.push_back(Effect::Allocate);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test begins at some moment")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proto::forward::Verdict;

    use super::*;

    fn effects(pool: &mut Pool) -> Vec<Effect> {
        std::iter::from_fn(|| pool.poll_effect()).collect()
    }

    #[test]
    fn one_flow_carries_many_and_another_the_rest() {
        let now = Instant::now();
        let mut pool = Pool::default();
        for want in 0..1002 {
            pool.wanted(Want(want));
        }
        assert_eq!(effects(&mut pool), [Effect::Allocate]);
        let first = pool.allocated(now);
        let seated = effects(&mut pool);
        assert_eq!(seated.len(), 1001, "a thousand seats, and the next flow");
        assert_eq!(seated[999..], [Effect::Take(Want(999), first), Effect::Allocate]);
        let second = pool.allocated(now);
        assert_eq!(effects(&mut pool), [Effect::Take(Want(1000), second), Effect::Take(Want(1001), second)]);
        // The first is filled first, so that the second becomes empty and ends.
        pool.left(now, first);
        pool.wanted(Want(2000));
        assert_eq!(effects(&mut pool), [Effect::Take(Want(2000), first)]);
        pool.left(now, second);
        pool.left(now, second);
        assert_eq!(pool.poll_timeout(), Some(now + SPARE));
        pool.handle_timeout(now + SPARE);
        assert_eq!((effects(&mut pool), pool.carried()), (vec![Effect::End(second)], (1, 1000)));
    }

    #[test]
    fn a_flow_that_is_gone_is_asked_for_anew() {
        let now = Instant::now();
        let mut pool = Pool::default();
        pool.wanted(Want(1));
        let first = pool.allocated(now);
        effects(&mut pool);
        pool.gone(first);
        assert_eq!((effects(&mut pool), pool.carried()), (vec![], (0, 0)), "nobody wants one");
        pool.left(now, first);
        pool.wanted(Want(2));
        assert_eq!(effects(&mut pool), [Effect::Allocate]);
    }

    #[test]
    fn all_who_wait_are_told_of_a_refusal_and_the_next_asks_again() {
        let mut pool = Pool::default();
        let no = Refusal::here(Verdict::UnknownHost, "no such name");
        for want in [Want(1), Want(2), Want(3)] {
            pool.wanted(want);
        }
        assert_eq!(effects(&mut pool), [Effect::Allocate]);
        pool.refused(&no);
        let told = [1, 2, 3].map(|want| Effect::Refuse(Want(want), no.clone()));
        assert_eq!(effects(&mut pool), told);
        pool.wanted(Want(4));
        assert_eq!(effects(&mut pool), [Effect::Allocate]);
    }

    proptest! {
        /// Whatever happens: nobody is seated twice or forgotten, no flow is overfull, one allocation is under way at most.
        #[test]
        fn everybody_is_seated_or_told(steps in proptest::collection::vec(0u8..6, 0..40)) {
            let now = Instant::now();
            let (mut pool, mut wants, mut waiting, mut allocating) = (Pool::default(), 0, BTreeSet::new(), 0);
            let mut seats: Vec<FlowKey> = Vec::new();
            for step in steps {
                match step {
                    0..=2 => for _ in 0..300 {
                        wants += 1;
                        waiting.insert(wants);
                        pool.wanted(Want(wants));
                    },
                    3 if allocating == 1 => {
                        allocating = 0;
                        pool.allocated(now);
                    }
                    4 if allocating == 1 => {
                        allocating = 0;
                        pool.refused(&Refusal::here(Verdict::TimedOut, ""));
                    }
                    5 => if let Some(key) = seats.pop() {
                        pool.left(now, key);
                    },
                    _ => {}
                }
                for effect in effects(&mut pool) {
                    match effect {
                        Effect::Allocate => allocating += 1,
                        Effect::Take(want, key) => {
                            prop_assert!(waiting.remove(&want.0));
                            seats.push(key);
                        }
                        Effect::Refuse(want, _) => {
                            prop_assert!(waiting.remove(&want.0));
                        }
                        Effect::End(_) => prop_assert!(false, "no time has passed"),
                    }
                }
                prop_assert!(allocating <= 1);
                prop_assert!(allocating == 1 || waiting.is_empty());
                prop_assert!(pool.flows.iter().all(|flow| flow.carries <= ROOM));
            }
        }
    }
}

//! One lease with one daemon: redeems that wait, flows that are held, and what happens when the daemon ends.
//!
//! | state | redeem | opened | open failed | lost |
//! |---|---|---|---|---|
//! | Down | open at once → Opening | | | |
//! | Opening | queued | redeems said, flows handed back → Open | redeems fail → Down | |
//! | Open | said | | | redeems fail → Down, opened again after a while if there are flows |
//!
//! Flows are handed back some at a time, the next as the daemon answers: descriptors on their way are limited, and who
//! redeems meanwhile does not wait behind ten thousand of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use proto::handoff::ToDaemon;
use proto::v1::{self, Failure, FailureKind};
use proto::{FlowId, Token};

/// First pause before a lost lease is opened again; doubled up to `RETRY_LAST`. A try costs a system call, and a daemon that
/// is back is to have its flows within a second. Up to half as long again, so that not all programs come at once.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LAST: Duration = Duration::from_millis(240);
/// After a daemon said no: it is of another version, or has as many leases as it may.
const RETRY_DENIED: Duration = Duration::from_secs(2);
/// Flows handed back of which the daemon has not spoken yet.
const PRESENTED_AT_ONCE: usize = 128;
/// A flow that the daemon had no room for is handed back again after this.
const PRESENT_AGAIN: Duration = Duration::from_secs(1);
/// The daemon closes a flow's socket by then after it said Gone; later we do.
const CLOSED_WITHIN: Duration = Duration::from_millis(150);
/// A closed socket whose reason is not said by then has none.
const REASON_WITHIN: Duration = Duration::from_millis(200);

/// Someone who waits for a redeem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// A redeemed flow; its socket and slot came beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) flow: FlowId,
    pub(crate) sdu_limit: u32,
}

/// What the table wants done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Open the lease; answer with `opened` or `open_failed`.
    Open,
    Say(ToDaemon),
    /// Hand the flow's socket back with this ticket and its counters.
    HandBack {
        flow: FlowId,
        ticket: Vec<u8>,
    },
    /// A redeem's end.
    Resolve {
        call: CallId,
        result: Result<Taken, Failure>,
    },
    /// The flow `was` goes on as `now`, with a slot of the new memory.
    Rehome {
        was: FlowId,
        now: FlowId,
    },
    /// The flow is over; who uses it learns why.
    End {
        flow: FlowId,
        reason: v1::EndReason,
    },
    /// Close the flow's socket for whoever waits on it.
    Shut {
        flow: FlowId,
    },
    /// The lease stands again after it was lost: say once more what this process serves.
    Announce,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Down { retry_at: Option<Instant> },
    Opening,
    Open,
}

#[derive(Debug)]
struct Held {
    ticket: Vec<u8>,
    ended: bool,
    shut_at: Option<Instant>,
    reason_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Close the socket of a flow that is over.
    Shut,
    /// Give up waiting for the reason of a closed socket.
    Reason,
    /// Hand the flow back once more.
    Present,
}

/// The table of one lease.
#[derive(Debug)]
pub(crate) struct LeaseTable {
    state: State,
    /// Opened again whenever it is lost, flows or not.
    lasting: bool,
    was_open: bool,
    /// Tells this program's pauses from others'.
    seed: u64,
    tries: u64,
    pause: Duration,
    redeems: HashMap<Token, CallId>,
    flows: HashMap<FlowId, Held>,
    /// Of the few flows that are about to end. Rows of flows already released do no harm.
    timers: BTreeSet<(Instant, FlowId, Timer)>,
    /// Flows yet to be handed back, and those that are: by their tickets, which the answer will carry.
    to_present: VecDeque<FlowId>,
    presented: HashMap<Vec<u8>, FlowId>,
    effects: Vec<Effect>,
}

impl LeaseTable {
    pub(crate) fn new(lasting: bool, seed: u64) -> Self {
        Self {
            state: State::Down { retry_at: None },
            lasting,
            was_open: false,
            seed,
            tries: 0,
            pause: RETRY_FIRST,
            redeems: HashMap::new(),
            flows: HashMap::new(),
            timers: BTreeSet::new(),
            to_present: VecDeque::new(),
            presented: HashMap::new(),
            effects: Vec::new(),
        }
    }

    /// What is to be done, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The lease is wanted, now.
    pub(crate) fn want(&mut self) {
        if let State::Down { .. } = self.state {
            self.state = State::Opening;
            self.effects.push(Effect::Open);
        }
    }

    pub(crate) fn redeem(&mut self, token: Token, call: CallId) {
        if let Some(other) = self.redeems.insert(token, call) {
            let failure = Failure::new(FailureKind::Internal, "two redeem the same token");
            self.effects.push(Effect::Resolve { call: other, result: Err(failure) });
        }
        match self.state {
            State::Open => self.effects.push(say_redeem(token)),
            State::Down { .. } | State::Opening => self.want(),
        }
    }

    pub(crate) fn opened(&mut self) {
        self.state = State::Open;
        self.pause = RETRY_FIRST;
        self.effects.extend(self.redeems.keys().map(|token| say_redeem(*token)));
        if std::mem::replace(&mut self.was_open, true) {
            self.effects.push(Effect::Announce);
        }
        self.to_present = self.flows.keys().copied().collect();
        // In order of age: what was allocated first is back first.
        self.to_present.make_contiguous().sort_unstable();
        self.present();
    }

    /// Hands back as many flows as may be on their way.
    fn present(&mut self) {
        while self.is_open() && self.presented.len() < PRESENTED_AT_ONCE {
            let Some(flow) = self.to_present.pop_front() else { return };
            let Some(held) = self.flows.get(&flow).filter(|held| !held.ended && !held.ticket.is_empty()) else {
                continue;
            };
            self.presented.insert(held.ticket.clone(), flow);
            self.effects.push(Effect::HandBack { flow, ticket: held.ticket.clone() });
        }
    }

    pub(crate) fn open_failed(&mut self, now: Instant, failure: &Failure) {
        if failure.kind() != FailureKind::IpcpDown {
            self.pause = RETRY_DENIED;
        }
        self.down(now, failure);
    }

    /// The daemon ended the lease, most likely because it ended itself.
    pub(crate) fn lost(&mut self, now: Instant) {
        let text = "the daemon ended before it handed the flow over; allocate again";
        self.down(now, &Failure::new(FailureKind::IpcpDown, text));
    }

    fn down(&mut self, now: Instant, failure: &Failure) {
        self.presented.clear();
        self.to_present.clear();
        self.timers.retain(|(.., timer)| *timer != Timer::Present);
        for (_, call) in self.redeems.drain() {
            self.effects.push(Effect::Resolve { call, result: Err(failure.clone()) });
        }
        let again = (self.lasting && self.was_open) || self.flows.values().any(|held| !held.ended);
        self.tries += 1;
        let share = BuildHasherDefault::<DefaultHasher>::new().hash_one((self.seed, self.tries)) % 128;
        let pause = self.pause + self.pause * u32::try_from(share).unwrap_or(0) / 256;
        self.state = State::Down { retry_at: again.then(|| now + pause) };
        self.pause = (self.pause * 2).min(RETRY_LAST);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// `asked` is the token redeemed or the ticket presented.
    pub(crate) fn granted(&mut self, asked: &[u8], flow: FlowId, sdu_limit: u32, ticket: Vec<u8>, socket: bool) {
        if let Some(call) = Token::from_bytes(asked).and_then(|token| self.redeems.remove(&token)) {
            if socket {
                self.hold(flow, ticket);
                let result = Ok(Taken { flow, sdu_limit });
                return self.effects.push(Effect::Resolve { call, result });
            }
            self.effects.push(say_release(flow));
            return self.effects.push(Effect::Resolve { call, result: Err(no_descriptor()) });
        }
        let was = self.presented.remove(asked).filter(|was| self.flows.remove(was).is_some());
        match was {
            Some(was) => {
                self.hold(flow, ticket);
                self.effects.push(Effect::Rehome { was, now: flow });
            }
            // Nobody waits for it any more.
            None => self.effects.push(say_release(flow)),
        }
        self.present();
    }

    fn hold(&mut self, flow: FlowId, ticket: Vec<u8>) {
        self.flows.insert(flow, Held { ticket, ended: false, shut_at: None, reason_at: None });
    }

    pub(crate) fn denied(&mut self, now: Instant, asked: &[u8], failure: Failure) {
        if let Some(call) = Token::from_bytes(asked).and_then(|token| self.redeems.remove(&token)) {
            return self.effects.push(Effect::Resolve { call, result: Err(failure) });
        }
        // A daemon that does not take a flow back leaves its data path alone: the flow goes on, unwatched, until the
        // peer ends. It is presented again only where there was no room for it.
        let Some(flow) = self.presented.remove(asked) else { return };
        if failure.kind() == FailureKind::Exhausted {
            self.timers.insert((now + PRESENT_AGAIN, flow, Timer::Present));
        } else if let Some(held) = self.flows.get_mut(&flow) {
            held.ticket.clear();
        }
        self.present();
    }

    pub(crate) fn gone(&mut self, now: Instant, flow: FlowId, reason: v1::EndReason) {
        let Some(held) = self.flows.get_mut(&flow) else { return };
        if !std::mem::replace(&mut held.ended, true) {
            let at = now + CLOSED_WITHIN;
            held.shut_at = Some(at);
            self.timers.insert((at, flow, Timer::Shut));
            self.effects.push(Effect::End { flow, reason });
        }
    }

    /// The flow's peer is elsewhere; another ticket says so.
    pub(crate) fn moved(&mut self, flow: FlowId, ticket: Vec<u8>) {
        if let Some(held) = self.flows.get_mut(&flow) {
            held.ticket = ticket;
        }
    }

    /// The flow's user has let go of it; `said`: Release has been sent already.
    pub(crate) fn released(&mut self, flow: FlowId, said: bool) {
        let Some(held) = self.flows.remove(&flow) else { return };
        // A timer that finds nothing wakes the thread all the same.
        let shut = held.shut_at.map(|at| (at, flow, Timer::Shut));
        let reason = held.reason_at.map(|at| (at, flow, Timer::Reason));
        for timer in shut.into_iter().chain(reason) {
            self.timers.remove(&timer);
        }
        if !said && self.is_open() {
            self.effects.push(say_release(flow));
        }
    }

    /// The kernel says that the peer's port is closed: the daemon is to find out.
    pub(crate) fn suspect(&mut self, flow: FlowId) {
        if self.is_open() && self.flows.contains_key(&flow) {
            self.effects.push(Effect::Say(ToDaemon::Suspect(v1::Suspect { flow_id: flow.0 })));
        }
    }

    /// The flow's socket was found closed; its user waits for the reason.
    pub(crate) fn found_closed(&mut self, now: Instant, flow: FlowId) {
        match self.flows.get_mut(&flow) {
            Some(held) if !held.ended => {
                let at = now + REASON_WITHIN;
                // Found closed again, the reason is awaited since the first time.
                if held.reason_at.is_none() {
                    held.reason_at = Some(at);
                    self.timers.insert((at, flow, Timer::Reason));
                }
                // The other end of a local flow may have closed while irmd was down: then only this tells irmd.
                if self.lasting {
                    self.suspect(flow);
                }
            }
            Some(_) => {}
            None => self.effects.push(Effect::End { flow, reason: v1::EndReason::Unspecified }),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, flow, timer)) = self.timers.pop_first() else { break };
            let Some(held) = self.flows.get_mut(&flow) else { continue };
            match timer {
                Timer::Present => {
                    self.to_present.push_back(flow);
                    self.present();
                }
                Timer::Shut => self.effects.push(Effect::Shut { flow }),
                Timer::Reason if held.ended => {}
                Timer::Reason => {
                    held.ended = true;
                    self.effects.push(Effect::End { flow, reason: v1::EndReason::Unspecified });
                }
            }
        }
        if matches!(self.state, State::Down { retry_at: Some(at) } if at <= now) {
            self.want();
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let retry = match self.state {
            State::Down { retry_at } => retry_at,
            State::Opening | State::Open => None,
        };
        let timer = self.timers.first().map(|(at, ..)| *at);
        timer.into_iter().chain(retry).min()
    }
}

fn say_redeem(token: Token) -> Effect {
    Effect::Say(ToDaemon::Redeem(v1::Redeem { token: token.0.to_vec() }))
}

fn say_release(flow: FlowId) -> Effect {
    Effect::Say(ToDaemon::Release(v1::Release { flow_id: flow.0 }))
}

fn no_descriptor() -> Failure {
    let text = "the flow's socket was lost on its way: this process is out of descriptors; \
                deallocate flows or raise its limit (`ulimit -n`), then allocate again";
    Failure::new(FailureKind::Exhausted, text)
}

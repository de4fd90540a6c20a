//! The end of a flow, from either side.
//!
//! This side is done: what it sent leaves first (Flushing), then the peer's shim is told until it says it heard
//! (Telling). The peer is done: what arrived is read first (Draining), then the socket is taken from the program.

use std::time::{Duration, Instant};

use proto::WireId;
use proto::shim::{ControlKind, Verdict};
use proto::v1::{EndReason, Failure, FailureKind};
use rand_chacha::rand_core::Rng;

use super::answers;
use super::flow::{Accepting, Draining, Flow, Flushing, State, Telling, Waiting};
use super::output::{Key, Output};
use super::table::{Cause, Phase};
use super::{Reason, Shim};

/// A send queue that does not empty is left behind after this.
const FLUSH: Duration = Duration::from_secs(1);
const FLUSH_PAUSE: Duration = Duration::from_millis(5);
/// Between the first two deallocs told, give or take a half; doubles.
const TELL_PAUSE: Duration = Duration::from_millis(100);
const TELLINGS: u32 = 8;
/// Flows at most that tell more than once; they hold no socket.
const MOST_TELLING: usize = 32_768;
/// A dealloc may overtake SDUs sent before it.
const GRACE: Duration = Duration::from_millis(100);
/// A program that does not read loses what it did not read after this.
const DRAIN: Duration = Duration::from_secs(2);
/// A program that does not read is told of the end after this.
const TELL_PROGRAM: Duration = Duration::from_millis(500);
/// A socket that no program takes is not kept longer, even where the end of its token goes unsaid.
const UNTAKEN: Duration = Duration::from_secs(10);
const LONGEST_DRAIN_PAUSE: Duration = Duration::from_millis(100);

impl Draining {
    pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
}

impl Shim {
    /// Ends a flow in whatever state, by order of irmd or at the end of this process.
    pub(super) fn end(&mut self, now: Instant, key: Key, reason: EndReason) {
        let Some(flow) = self.flows.get(&key) else { return };
        let text = match reason {
            EndReason::Admin => "the flow was deallocated by irmd",
            EndReason::AddressGone => "this host has another address since; try again",
            _ => "the IPCP is stopping; try later",
        };
        match flow.state.phase() {
            Phase::Meeting if flow.accepting => self.leave_meeting(now, key, Cause::Admin),
            Phase::Opening | Phase::Meeting | Phase::Asking | Phase::Promised | Phase::Knocking | Phase::Joining => {
                self.fail(now, key, Cause::Cancelled, Failure::new(FailureKind::FlowGone, text));
            }
            Phase::Reserving => self.refuse(now, key, Cause::NoSocket, Failure::new(FailureKind::Exhausted, text)),
            Phase::Waiting => self.refuse(now, key, Cause::Deadline, Failure::new(FailureKind::Exhausted, text)),
            Phase::Accepting => self.refuse(now, key, Cause::Admin, Failure::new(FailureKind::Exhausted, text)),
            Phase::Offered | Phase::Held | Phase::Probing => self.leave(now, key, Cause::Admin, reason),
            Phase::Draining => self.drained_out(now, key, Cause::Admin),
            Phase::Refusing => self.leave_meeting(now, key, Cause::Deadline),
            Phase::New | Phase::Flushing | Phase::Telling | Phase::Over => {}
        }
    }

    /// This side is done with a flow that a program has or could have.
    pub(super) fn leave(&mut self, now: Instant, key: Key, cause: Cause, reason: EndReason) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (id, classic) = (flow.id.take(), flow.classic);
        flow.keepalive = None;
        flow.swap_at = None;
        let died = reason != EndReason::Deallocated && reason != EndReason::Admin;
        let next = if classic {
            State::Over
        } else {
            State::Flushing(Flushing { until: now + FLUSH, next: now + FLUSH_PAUSE, died })
        };
        flow.go(cause, next);
        if let Some(id) = id {
            self.by_id.remove(&id);
            self.outputs.push_back(match reason {
                EndReason::Admin | EndReason::IpcpStopped | EndReason::AddressGone => Output::Gone { flow: id, reason },
                _ => Output::Forget { flow: id },
            });
            self.out(Output::Ended { flow: id, reason });
        }
        // A program that released its flow has closed it. One that died may have children that hold the socket.
        if reason != EndReason::Deallocated {
            self.out(Output::Revoke { key });
        }
        if classic {
            self.close(now, key);
            self.remember_over(now, key);
        } else {
            self.out(Output::CheckSent { key });
        }
    }

    /// Whether all that this side sent has left, as [`Output::CheckSent`] asked.
    pub fn sent_all(&mut self, now: Instant, key: Key, all: bool) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Flushing(flushing) = &mut flow.state else { return };
        if !all && flushing.until > now {
            flushing.next = now + FLUSH_PAUSE;
        } else {
            let died = flushing.died;
            flow.go(Cause::Sent, State::Telling(Telling { told: 0, next: now, died }));
            self.close(now, key);
            self.ending_timeout(now, key);
        }
        self.settle(key);
    }

    pub(super) fn ending_timeout(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        match &mut flow.state {
            State::Flushing(flushing) if flushing.next <= now => {
                flushing.next = now + FLUSH_PAUSE;
                self.out(Output::CheckSent { key });
            }
            State::Telling(telling) if telling.next <= now => self.tell(now, key),
            State::Draining(_) => self.drain(now, key),
            _ => {}
        }
    }

    fn tell(&mut self, now: Instant, key: Key) {
        let crowded = self.tallied(Phase::Telling) > MOST_TELLING;
        // Thousands of flows that end together must not be told of together again: the peer's queue holds some hundreds.
        let spread = 50 + self.rng.next_u32() % 101;
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Telling(telling) = &mut flow.state else { return };
        if telling.told == TELLINGS || crowded && telling.told > 0 {
            self.counters.count(Reason::DeallocUnheard);
            flow.go(Cause::Acked, State::Over);
            return self.remember_over(now, key);
        }
        telling.next = now + TELL_PAUSE * 2u32.pow(telling.told) * spread / 100;
        let told = telling.told;
        telling.told += 1;
        let (ours, theirs, died) = (flow.ours, flow.theirs, telling.died);
        let Some(flow) = self.flows.get(&key) else { return };
        let moved = self.moved_address(flow).filter(|_| told > 0);
        for to in [self.control_address(flow)].into_iter().chain(moved) {
            self.control(to, ControlKind::Dealloc { died }, ours, theirs);
        }
    }

    pub(super) fn dealloc_acked(&mut self, now: Instant, key: Key) {
        if let Some(flow) = self.flows.get_mut(&key)
            && matches!(flow.state, State::Telling(_))
        {
            flow.go(Cause::Acked, State::Over);
            self.remember_over(now, key);
        }
    }

    /// The peer is done, or knows nothing of the flow. Says whether the peer's word is to be acknowledged.
    pub(super) fn peer_ended(&mut self, now: Instant, key: Key, cause: Cause, reason: EndReason) -> bool {
        let Some(flow) = self.flows.get_mut(&key) else { return true };
        let since = match flow.state {
            State::Held | State::Probing(_) => Some(now),
            State::Offered => None,
            State::Flushing(_) | State::Telling(_) => {
                // Both sides are done.
                flow.go(cause, State::Over);
                self.close(now, key);
                self.remember_over(now, key);
                return true;
            }
            State::Waiting(_) | State::Accepting(_) => {
                self.withdrawn(now, key);
                return true;
            }
            State::Draining(_) | State::Refusing(_) | State::Over => return true,
            // The peer says it again, and by then it is known which flow it speaks of.
            State::Opening(_)
            | State::Meeting(_)
            | State::Asking(_)
            | State::Promised(_)
            | State::Knocking(_)
            | State::Joining(_)
            | State::Reserving(_) => return false,
        };
        flow.keepalive = None;
        flow.swap_at = None;
        let next = now + GRACE;
        let pause = Draining::FIRST_PAUSE;
        flow.go(cause, State::Draining(Draining { reason, since, arrived: now, next, pause, told: false }));
        true
    }

    /// Draining, at a time it asked for.
    fn drain(&mut self, now: Instant, key: Key) {
        if let Some(Flow { state: State::Draining(draining), .. }) = self.flows.get(&key)
            && now >= draining.arrived + GRACE
        {
            // What its client sends from now on is not of this flow.
            self.detach(now, key, false);
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Draining(draining) = &mut flow.state else { return };
        if draining.next > now {
            return;
        }
        draining.next = now + draining.pause;
        draining.pause = (draining.pause * 2).min(LONGEST_DRAIN_PAUSE);
        let Some(since) = draining.since else {
            if now >= draining.arrived + UNTAKEN {
                self.drained_out(now, key, Cause::NotTaken);
            }
            return;
        };
        if now >= since + DRAIN {
            return self.drained_out(now, key, Cause::Read);
        }
        if now >= since + TELL_PROGRAM && !draining.told {
            draining.told = true;
            let reason = draining.reason;
            if let Some(flow) = flow.id {
                self.out(Output::Gone { flow, reason });
            }
        }
        self.out(Output::CheckRead { key });
    }

    /// Whether all that arrived was read, as [`Output::CheckRead`] asked.
    pub fn read_all(&mut self, now: Instant, key: Key, all: bool) {
        let Some(flow) = self.flows.get(&key) else { return };
        let State::Draining(Draining { arrived, since: Some(_), .. }) = flow.state else { return };
        if all && now >= arrived + GRACE {
            self.drained_out(now, key, Cause::Read);
        }
        self.settle(key);
    }

    /// The last of a flow whose peer is done.
    pub(super) fn drained_out(&mut self, now: Instant, key: Key, cause: Cause) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Draining(Draining { reason, told, .. }) = flow.state else { return };
        flow.go(cause, State::Over);
        if let Some(flow) = flow.id {
            match cause {
                Cause::NotTaken | Cause::Released => self.out(Output::Forget { flow }),
                _ if !told => self.out(Output::Gone { flow, reason }),
                _ => {}
            }
            // Nobody has it, or nobody has it any more.
            if !matches!(cause, Cause::NotTaken | Cause::Released) {
                self.out(Output::Retire { key });
            }
            self.out(Output::Ended { flow, reason });
        }
        self.close(now, key);
        self.remember_over(now, key);
    }

    /// The caller gave up before it knew of the acceptance: control datagram with its id only.
    pub(super) fn withdrawn(&mut self, now: Instant, key: Key) {
        self.close(now, key);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let (token, id) = match flow.state {
            State::Waiting(Waiting { token, .. }) | State::Accepting(Accepting { token }) => (token, flow.id),
            _ => return,
        };
        flow.go(Cause::PeerDealloc, State::Over);
        self.out(Output::Abandon { key });
        let failure = Failure::new(FailureKind::FlowGone, "the caller gave up before the flow was accepted");
        self.out(Output::Withdraw { token, failure });
        if let Some(flow) = id {
            self.out(Output::Ended { flow, reason: EndReason::PeerDeallocated });
        }
        self.remember_over(now, key);
    }

    /// A late duplicate of the request that began this flow must not begin another.
    pub(super) fn remember_over(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get(&key) else { return };
        let Some(request) = flow.request.clone() else { return };
        if flow.classic {
            let until = flow.answered.unwrap_or(now) + answers::CLASSIC;
            return self.answers.remember(until, request, None);
        }
        let answer =
            self.verdict(flow.theirs, WireId(0), Verdict::Refused, "the flow is over already", Vec::new(), None);
        let bytes = answer.encode(&request.name);
        self.answers.remember(now + answers::EXTENDED, request, Some(bytes));
    }
}

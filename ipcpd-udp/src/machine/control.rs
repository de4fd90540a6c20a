//! Control datagrams of extended peers: the end of a flow, and whether it still is.
//!
//! Whoever knows both ids speaks for the flow, from wherever it sends; answers go to where it was heard last. Each
//! datagram gets at most one answer, of its own length.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::WireId;
use proto::shim::{Control, ControlKind};
use proto::v1::EndReason;

use super::flow::{Probing, State, Telling};
use super::liveness::RECOVERING_PAUSE;
use super::output::Key;
use super::table::Cause;
use super::{Reason, Shim};

/// Between the first two probes; doubles.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
const PROBES: u32 = 4;

impl Shim {
    /// A datagram on the listen port that begins with NUL.
    pub(super) fn handle_control(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let control = match Control::decode(bytes) {
            Ok(control) => control,
            Err(malformed) => return self.counters.count(malformed),
        };
        self.counters.count(Reason::Controls);
        let known = self.speaks_of(from, &control);
        let asked = known.is_some_and(|key| self.asked_for(key));
        if let Some(key) = known
            && let Some(flow) = self.flows.get_mut(&key)
        {
            // Nothing is decided by a client that says less than both ids.
            if flow.is(control.receiver, control.sender) {
                self.heard(now, key, from, &control);
            } else {
                flow.control = from;
            }
        }
        let telling = known.and_then(|key| match &self.flows.get(&key)?.state {
            State::Telling(Telling { died, .. }) => Some(*died),
            _ => None,
        });
        let reply = |kind| (kind, control.receiver, control.sender);
        let answer = match (control.kind, known) {
            (ControlKind::Dealloc { died }, Some(key)) => {
                let reason = if died { EndReason::PeerDied } else { EndReason::PeerDeallocated };
                self.peer_ended(now, key, Cause::PeerDealloc, reason).then_some(reply(ControlKind::DeallocAck))
            }
            // A program may still bring the flow back: the peer says it again.
            (ControlKind::Dealloc { .. } | ControlKind::Probe, None) if self.recovers(now) => {
                Some(reply(ControlKind::Recovering))
            }
            // Over already, or never here: the peer need not say it again.
            (ControlKind::Dealloc { .. }, None) => {
                self.counters.count(Reason::UnknownFlow);
                Some(reply(ControlKind::DeallocAck))
            }
            (ControlKind::DeallocAck, Some(key)) => {
                self.dealloc_acked(now, key);
                None
            }
            // What is being told may not have found the way; this datagram did.
            (ControlKind::Probe, Some(_)) if telling.is_some() => {
                telling.map(|died| reply(ControlKind::Dealloc { died }))
            }
            (ControlKind::Probe, Some(_)) => Some(reply(ControlKind::Alive)),
            (ControlKind::Probe, None) => {
                self.counters.count(Reason::UnknownFlow);
                Some(reply(ControlKind::NoSuchFlow))
            }
            (ControlKind::Alive, Some(key)) => {
                self.probed(key, Cause::Alive);
                None
            }
            (ControlKind::NoSuchFlow, Some(key)) => {
                if self.flows.get(&key).is_some_and(|flow| matches!(flow.state, State::Probing(_))) || asked {
                    self.peer_ended(now, key, Cause::NoSuchFlow, EndReason::PeerUnknown);
                }
                None
            }
            (ControlKind::Recovering, Some(key)) => {
                self.recovering_peer(now, key);
                None
            }
            (ControlKind::Open, Some(key)) => self.open_aside(key, &control).map(reply),
            (ControlKind::Open, None) => {
                self.counters.count(Reason::UnknownFlow);
                let kind = if self.recovers(now) { ControlKind::Recovering } else { ControlKind::NoSuchFlow };
                Some(reply(kind))
            }
            (ControlKind::Opened | ControlKind::Moved, _) => {
                self.counters.count(Reason::UnexpectedControl);
                None
            }
            (_, None) => {
                self.counters.count(Reason::UnknownFlow);
                None
            }
        };
        if let Some((kind, sender, receiver)) = answer {
            self.control(from, kind, sender, receiver);
        }
        if let Some(key) = known {
            self.settle(key);
        }
    }

    /// The flow whose ids the datagram carries. A client that gave up before it heard ours says zero.
    fn speaks_of(&self, from: SocketAddr, control: &Control) -> Option<Key> {
        if control.receiver == WireId(0) {
            let key = *self.by_client.get(&(from.ip(), control.sender))?;
            let dealloc = matches!(control.kind, ControlKind::Dealloc { .. } | ControlKind::DeallocAck);
            return dealloc.then_some(key);
        }
        let key = *self.by_wire.get(&control.receiver)?;
        let flow = self.flows.get(&key)?;
        // The answer to a client's word that it gave up comes back without our other id.
        let gave_up = control.kind == ControlKind::DeallocAck && control.sender == WireId(0);
        (flow.is(control.receiver, control.sender) || gave_up && flow.theirs == WireId(0)).then_some(key)
    }

    /// The kernel told the program that nothing listens at the peer's end.
    pub fn suspect(&mut self, now: Instant, flow: proto::FlowId) {
        let Some(&key) = self.by_id.get(&flow) else { return };
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if !matches!(flow.state, State::Held) {
            return;
        }
        if flow.classic {
            // All that a classic shim ever says about the end of a flow.
            self.peer_ended(now, key, Cause::Suspect, EndReason::PeerUnknown);
        } else {
            // ICMP can be forged, and the peer's program may just have been restarted by its shim: ask the shim.
            flow.go(Cause::Suspect, State::Probing(Probing { sent: 0, next: now }));
            self.probe_timeout(now, key);
        }
        self.settle(key);
    }

    pub(super) fn probe_timeout(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let State::Probing(probing) = &mut flow.state else { return };
        if probing.next > now {
            return;
        }
        if probing.sent == PROBES {
            // Silence is no proof: its shim may be down, and the flow lives without it.
            self.counters.count(Reason::ProbeUnanswered);
            return self.probed(key, Cause::Unanswered);
        }
        probing.next = now + PROBE_PAUSE * 2u32.pow(probing.sent);
        probing.sent += 1;
        let (ours, theirs) = (flow.ours, flow.theirs);
        let Some(flow) = self.flows.get(&key) else { return };
        let to = self.control_address(flow);
        self.control(to, ControlKind::Probe, ours, theirs);
    }

    /// The peer's shim restarted and does not know yet: asked again until it does.
    fn recovering_peer(&mut self, now: Instant, key: Key) {
        if let Some(flow) = self.flows.get_mut(&key)
            && let State::Probing(probing) = &mut flow.state
        {
            *probing = Probing { sent: 1, next: now + RECOVERING_PAUSE };
        }
    }

    fn probed(&mut self, key: Key, cause: Cause) {
        if let Some(flow) = self.flows.get_mut(&key)
            && matches!(flow.state, State::Probing(_))
        {
            flow.go(cause, State::Held);
        }
    }
}

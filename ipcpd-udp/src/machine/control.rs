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
use super::meeting::is_carried_to;
use super::output::{Key, Output};
use super::table::Cause;
use super::{Reason, Shim};

/// Between the first two probes; doubles.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
const PROBES: u32 = 4;

impl Shim {
    /// The bytes of a control datagram of this shim's.
    pub(super) fn said(&self, kind: ControlKind, sender: WireId, receiver: WireId) -> Vec<u8> {
        let control = Control { kind, host: self.settings.host, boot: self.settings.boot, sender, receiver };
        control.encode().to_vec()
    }

    pub(super) fn control(&mut self, to: SocketAddr, kind: ControlKind, sender: WireId, receiver: WireId) {
        let bytes = self.said(kind, sender, receiver);
        match is_carried_to(to) {
            None => self.out(Output::SendListen { to, bytes }),
            Some(host) => self.carry(host, bytes),
        }
    }

    /// Through the rendezvous: this shim and the other do not reach each other.
    fn carry(&mut self, host: proto::HostId, bytes: Vec<u8>) {
        let Some(member) = &mut self.member else { return };
        member.carry(host, bytes);
        while let Some((to, bytes)) = self.member.as_mut().and_then(|member| member.poll_output()) {
            self.out(Output::SendListen { to, bytes });
        }
    }

    /// A datagram on the listen port that begins with NUL.
    pub(super) fn handle_control(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let control = match Control::decode(bytes) {
            Ok(control) => control,
            Err(malformed) => return self.counters.count(malformed),
        };
        self.counters.count(Reason::Controls);
        let about = self.speaks_of(from, &control);
        let known = about.is_some();
        let answer = match about {
            Some(key) => {
                let answer = self.of_a_flow(now, key, from, &control);
                self.settle(key);
                answer
            }
            // Still asked for: the peer knows this side's id, and this side will know the peer's.
            None if self.asks_for(&control) => None,
            None => self.of_no_flow(now, control.kind),
        };
        if let Some(kind) = answer
            && (known || self.may_answer_control(now, from))
        {
            self.control(from, kind, control.receiver, control.sender);
        }
    }

    /// What to answer, if anything, to a control datagram that carries a flow's ids.
    fn of_a_flow(&mut self, now: Instant, key: Key, from: SocketAddr, control: &Control) -> Option<ControlKind> {
        let asked = self.asked_for(key);
        let flow = self.flows.get_mut(&key)?;
        // Behind one address may be several hosts: another one's shim knows nothing of the flow, and says so.
        if flow.of.is_some_and(|of| of.host != control.host) {
            self.counters.count(Reason::Spoofed);
            return None;
        }
        let probing = matches!(flow.state, State::Probing(_));
        match control.kind {
            // It comes from the flow's own port: nothing else is ever said there.
            ControlKind::Open => return self.open_aside(key, control),
            // It says that the peer does not hear this side, not that the two shims hear each other: the flow's time runs on.
            ControlKind::Moved => {
                self.peer_is_adrift(now, key, control);
                return None;
            }
            // A client that says less than both ids knows nothing of its pair yet.
            _ if !flow.is(control.receiver, control.sender) => flow.control = from,
            _ => {
                flow.answer_arrived();
                self.heard(now, key, from, control);
                self.way_found(key);
            }
        }
        match control.kind {
            ControlKind::Dealloc { died } => {
                let reason = if died { EndReason::PeerDied } else { EndReason::PeerDeallocated };
                let heard = self.peer_ended(now, key, Cause::PeerDealloc, reason);
                return heard.then_some(ControlKind::DeallocAck);
            }
            ControlKind::DeallocAck => self.dealloc_acked(now, key),
            ControlKind::Probe => return Some(self.how_it_stands(key)),
            ControlKind::Alive => self.probed(key, Cause::Alive),
            ControlKind::NoSuchFlow if probing || asked => {
                self.peer_ended(now, key, Cause::NoSuchFlow, EndReason::PeerUnknown);
            }
            ControlKind::NoSuchFlow => {}
            ControlKind::Recovering => self.recovering_peer(now, key),
            ControlKind::Open | ControlKind::Opened | ControlKind::Moved => {
                self.counters.count(Reason::UnexpectedControl)
            }
        }
        None
    }

    /// The same for one whose ids are no flow's.
    fn of_no_flow(&mut self, now: Instant, kind: ControlKind) -> Option<ControlKind> {
        let question = matches!(kind, ControlKind::Dealloc { .. } | ControlKind::Probe | ControlKind::Open);
        // A program may still bring the flow back: the peer asks or says it again.
        if question && self.recovers(now) {
            return Some(ControlKind::Recovering);
        }
        let reason = match kind {
            ControlKind::Opened | ControlKind::Moved => Reason::UnexpectedControl,
            _ => Reason::UnknownFlow,
        };
        self.counters.count(reason);
        match kind {
            // Over already, or never here: the peer need not say it again.
            ControlKind::Dealloc { .. } => Some(ControlKind::DeallocAck),
            ControlKind::Probe | ControlKind::Open => Some(ControlKind::NoSuchFlow),
            _ => None,
        }
    }

    /// The answer to a probe. What is being told may not have found its way; the probe did.
    fn how_it_stands(&self, key: Key) -> ControlKind {
        match self.flows.get(&key).map(|flow| &flow.state) {
            Some(State::Telling(Telling { died, .. })) => ControlKind::Dealloc { died: *died },
            _ => ControlKind::Alive,
        }
    }

    fn asks_for(&self, control: &Control) -> bool {
        let flow = self.by_wire.get(&control.receiver).and_then(|key| self.flows.get(key));
        flow.is_some_and(|flow| !flow.accepting && flow.theirs == WireId(0) && flow.id.is_some())
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

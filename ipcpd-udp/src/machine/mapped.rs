//! Flows' sockets and the ports that this host's router maps to them.

use std::net::SocketAddr;
use std::time::Instant;

use gateway::{Gateway, Granted, NotFound, Refusal};
use proto::rendezvous::Mapped;

use super::mapping::{Asked, Of, Place};
use super::output::{Key, Output};
use super::rendezvous::attempt::Setup;
use super::rendezvous::member::Standing;
use super::rendezvous::punch::{Way, Won};
use super::{Reason, Shim};

impl Shim {
    /// What came of [`Step::Find`](super::mapping::Step::Find).
    pub fn router_found(&mut self, now: Instant, turn: u64, result: Result<(Gateway, Granted), NotFound>) {
        let before = self.router_words();
        if let Some(mapper) = &mut self.mapper {
            mapper.found(now, turn, result);
        }
        self.router_steps();
        if let (Some(before), Some(words)) = (before, self.router_words())
            && before != words
        {
            self.out(Output::Note { text: words.into() });
        }
    }

    /// What came of [`Step::Map`](super::mapping::Step::Map).
    pub fn port_mapped(&mut self, now: Instant, asked: Asked, result: Result<Granted, Refusal>) {
        self.counters.count(if result.is_ok() { Reason::PortsMapped } else { Reason::PortsNotMapped });
        let Some(mapper) = &mut self.mapper else { return };
        mapper.answered(now, asked, result);
        let outside = mapper.outside(asked.of);
        self.router_steps();
        if let Of::Flow(key) = asked.of {
            self.tell_attempt(now, key, outside);
        }
    }

    /// The attempt of a flow that waits for its mapping, and says it to the server.
    fn tell_attempt(&mut self, now: Instant, key: Key, outside: Option<SocketAddr>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if let Some(attempt) = flow.met.as_mut().and_then(|met| met.attempt.as_mut()) {
            attempt.mapped(now, outside);
            self.attempt_steps(now, key);
        }
        let moving = self.flows.get_mut(&key).and_then(|flow| flow.moving.as_mut());
        if let Some(attempt) = moving.and_then(|moving| moving.attempt()) {
            attempt.mapped(now, outside);
            self.moving_steps(now, key);
        }
        self.settle(key);
    }

    fn router_steps(&mut self) {
        let Some(mapper) = &mut self.mapper else { return };
        while let Some(step) = mapper.poll_step() {
            self.outputs.push_back(Output::Router(step));
        }
        let mapped = mapper.outside(Of::Listen).is_some();
        if let Some(member) = &mut self.member {
            member.set_mapped(mapped);
        }
    }

    /// A flow's socket is to be met: the router may be asked for a port first.
    pub(super) fn ask_router(&mut self, now: Instant, key: Key, setup: &mut Setup) {
        let (Some(mapper), Some(local)) = (&mut self.mapper, setup.locals.first()) else { return };
        setup.hold = mapper.want(now, key, *local, setup.nat);
        setup.mapped.flow = mapper.outside(Of::Flow(key));
        self.router_steps();
    }

    /// Where the router maps the listen port.
    pub(super) fn mapped_shim(&self) -> Mapped {
        let shim = self.mapper.as_ref().and_then(|mapper| mapper.outside(Of::Listen));
        Mapped { flow: None, shim }
    }

    /// There is a path. A mapping that it does not go through is of no use.
    pub(super) fn keep_mapping(&mut self, key: Key, won: Won) {
        let own = self.mapper.as_ref().and_then(|mapper| mapper.outside(Of::Flow(key)));
        if won.way == Way::Relayed || won.seen_at.is_some() && won.seen_at != own {
            self.release_mapping(key);
        }
    }

    /// Whether the router maps the flow's port.
    pub(super) fn is_mapped(&self, key: Key) -> bool {
        self.mapper.as_ref().is_some_and(|mapper| mapper.outside(Of::Flow(key)).is_some())
    }

    /// The flow needs its mapping no longer.
    pub(super) fn release_mapping(&mut self, key: Key) {
        if let Some(mapper) = &mut self.mapper {
            mapper.release(Of::Flow(key));
            self.router_steps();
        }
    }

    /// A flow was brought back that may go through a mapping.
    pub(super) fn resume_mapping(&mut self, now: Instant, key: Key) {
        let Some(flow) = self.flows.get(&key) else { return };
        let (way, local) = (flow.way, flow.local);
        if let (Some(mapper), Some(Way::Mapped), Some(local)) = (&mut self.mapper, way, local) {
            mapper.resume(now, key, local);
            self.router_steps();
        }
    }

    /// Something was heard of the session: a member asks its router once it knows what stands before this host, and again when that is
    /// elsewhere.
    pub(super) fn look_at_router(&mut self, now: Instant) {
        let (Some(mapper), Some(member)) = (&mut self.mapper, &self.member) else { return };
        let place = (self.settings.listen, member.server(), member.public());
        if let (SocketAddr::V4(local), Some(SocketAddr::V4(server)), Some(SocketAddr::V4(public))) = place
            && member.standing() == Standing::Joined
            && !member.is_surveying()
        {
            mapper.at(now, Place { local, server, public });
        }
        self.router_steps();
    }

    /// This host is at another address: what was mapped is another place's.
    pub(super) fn router_is_elsewhere(&mut self) {
        if let Some(mapper) = &mut self.mapper {
            mapper.moved();
        }
        self.router_steps();
    }

    pub(super) fn leave_router(&mut self) {
        if let Some(mapper) = &mut self.mapper {
            mapper.leave();
        }
        self.router_steps();
    }

    pub(super) fn mapping_timeout(&mut self, now: Instant) {
        if let Some(mapper) = &mut self.mapper {
            mapper.handle_timeout(now);
        }
        self.router_steps();
    }

    /// By which protocol the router maps ports; empty where it does not, or is not asked.
    pub fn router_protocol(&self) -> &'static str {
        self.mapper.as_ref().map_or("", |mapper| mapper.protocol())
    }

    /// How it stands with the router; nothing where it is not asked.
    pub(super) fn router_words(&self) -> Option<String> {
        self.mapper.as_ref().map(|mapper| mapper.words())
    }

    /// For a flow that found no path.
    pub(super) fn router_hint(&self) -> String {
        let asked = self.mapper.as_ref().map(|mapper| mapper.hint());
        asked.unwrap_or_else(|| "or have this host's router asked for a port: irm ipcp enroll --map-ports".to_owned())
    }
}

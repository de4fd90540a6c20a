//! What NAT stands before a member, found out after it joined; where that gives each mapping another port, in which order.

use std::net::SocketAddr;
use std::time::Instant;

use proto::rendezvous::{Mapping, Nat};
use rand_chacha::ChaCha12Rng;

use super::super::predict::{Level, Steps};
use super::{Event, Member};

impl Member {
    pub(super) fn surveyed(&mut self) {
        let Some(survey) = self.survey.take_if(|survey| survey.found().is_some()) else { return };
        self.stop_measuring();
        let found = survey.found().unwrap_or_default();
        // What a mapped port lets in, and how it is seen, says nothing of the others'.
        let known = self.mapped && self.nat.mapping != Mapping::Unknown;
        self.nat = if known { Nat { step: 0, ..self.nat } } else { found };
        if self.nat.mapping == Mapping::PortDependent && self.session.punch >= Level::Predict {
            self.other = survey.other();
            self.events.push_back(Event::Measure);
        }
    }

    /// The sockets are open, as many as could be.
    pub fn measure(&mut self, now: Instant, rng: &mut ChaCha12Rng) {
        if let (Some(server), Some(other)) = (self.server, self.other.take()) {
            self.steps = Some(Steps::new(now, server, other, self.head(), rng));
        }
    }

    /// What is to be sent from which of them.
    pub fn poll_measuring(&mut self, now: Instant) -> Vec<(usize, SocketAddr, Vec<u8>)> {
        let sends = self.steps.as_mut().map(|steps| steps.handle_timeout(now)).unwrap_or_default();
        self.measured();
        sends
    }

    /// A datagram came to one of them.
    pub fn handle_measuring(&mut self, socket: usize, from: SocketAddr, bytes: &[u8]) {
        if let Some(steps) = &mut self.steps {
            steps.handle(socket, from, bytes);
        }
        self.measured();
    }

    pub(super) fn measured(&mut self) {
        if let Some(steps) = self.steps.take_if(|steps| steps.is_over()) {
            self.nat.step = steps.found();
            self.events.push_back(Event::Measured);
        }
    }

    pub(super) fn stop_measuring(&mut self) {
        if self.other.take().is_some() || self.steps.take().is_some() {
            self.events.push_back(Event::Measured);
        }
    }
}

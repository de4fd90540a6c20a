//! Serving a name, blocking.

use std::time::Duration;

use super::Flow;
use crate::io::park;
use crate::{AcceptError, Peer};

/// [`crate::Listener`] without a runtime.
#[derive(Debug)]
pub struct Listener(crate::Listener);

impl From<crate::Listener> for Listener {
    fn from(listener: crate::Listener) -> Self {
        Self(listener)
    }
}

impl Listener {
    /// The name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The layers the name is registered in.
    pub fn layers(&self) -> &[String] {
        self.0.layers()
    }

    /// The next flow, accepted.
    pub fn accept(&self) -> Result<Flow, AcceptError> {
        park::wait(self.0.accept()).map(Flow::from)
    }

    /// The same, for a bounded time.
    pub fn accept_within(&self, within: Duration) -> Result<Flow, AcceptError> {
        park::wait(self.0.accept_within(within)).map(Flow::from)
    }

    /// The next flow, not accepted yet.
    pub fn incoming(&self) -> Result<Incoming, AcceptError> {
        park::wait(self.0.incoming()).map(Incoming)
    }

    /// The same, for a bounded time.
    pub fn incoming_within(&self, within: Duration) -> Result<Incoming, AcceptError> {
        park::wait(self.0.incoming_within(within)).map(Incoming)
    }
}

/// [`crate::Incoming`] without a runtime. Dropped, it is refused.
#[derive(Debug)]
pub struct Incoming(crate::Incoming);

impl Incoming {
    /// The name that was asked for.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Who asks, as it says.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// All that is known of the peer.
    pub fn peer(&self) -> &Peer {
        self.0.peer()
    }

    /// What came with the request. Not authenticated.
    pub fn data(&self) -> &[u8] {
        self.0.data()
    }

    /// Accepts.
    pub fn accept(self) -> Result<Flow, AcceptError> {
        park::wait(self.0.accept()).map(Flow::from)
    }

    /// Accepts, with bytes for the caller.
    pub fn accept_with(self, data: impl Into<Vec<u8>>) -> Result<Flow, AcceptError> {
        park::wait(self.0.accept_with(data)).map(Flow::from)
    }

    /// Refuses, with words for the caller.
    pub fn refuse(self, reason: &str) -> Result<(), AcceptError> {
        park::wait(self.0.refuse(reason))
    }
}

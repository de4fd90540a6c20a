//! A connection as others see it while it lives, and what its rule has counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::running::{Claim, Running};
use crate::machine::life::Side;
use crate::said::control::ConnectionStatus;
use crate::said::rule::Rule;

/// A connection that lives.
#[derive(Debug)]
pub(crate) struct Live {
    /// The rule that it came through, as it was then.
    pub(crate) running: Arc<Running>,
    /// The client's address; `None`: a Unix socket's, or unknown.
    pub(crate) client: Option<SocketAddr>,
    /// What the client connected to.
    pub(crate) listener: Option<SocketAddr>,
    /// Where it was connected to, once it is: the target's place in the rule.
    target: OnceLock<(usize, Claim)>,
    /// When it came.
    pub(crate) since: Instant,
    /// Bytes that each side said, by [`Side::index`].
    carried: [AtomicU64; 2],
}

impl Live {
    pub(crate) fn new(
        running: Arc<Running>,
        client: Option<SocketAddr>,
        listener: Option<SocketAddr>,
        since: Instant,
    ) -> Self {
        Self { running, client, listener, target: OnceLock::new(), since, carried: Default::default() }
    }

    /// Its rule.
    pub(crate) fn rule(&self) -> &Rule {
        &self.running.rule
    }

    /// It is connected to this target.
    pub(crate) fn joined(&self, target: usize, claim: impl FnOnce() -> Claim) {
        // It is connected once.
        self.target.get_or_init(|| (target, claim()));
    }

    /// Where it was connected to, once it is.
    pub(crate) fn target(&self) -> Option<&str> {
        self.target.get().map(|(target, _)| self.running.target(*target).name.as_str())
    }

    /// For who wants to see it.
    pub(crate) fn status(&self, now: Instant) -> ConnectionStatus {
        let [bytes_in, bytes_out] = self.bytes();
        let age = now.saturating_duration_since(self.since).as_millis();
        ConnectionStatus {
            rule: self.rule().name.clone(),
            client: self.client.map_or_else(|| "-".to_owned(), |client| client.to_string()),
            target: self.target().map(str::to_owned),
            age_ms: u64::try_from(age).unwrap_or(u64::MAX),
            bytes_in,
            bytes_out,
        }
    }

    /// `side` said so many bytes more.
    pub(crate) fn carried(&self, side: Side, bytes: u64) {
        self.carried[side.index()].fetch_add(bytes, Ordering::Relaxed);
        self.running.counters.carried[side.index()].fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many bytes each side has said: the client, the target.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        Side::BOTH.map(|side| self.carried[side.index()].load(Ordering::Relaxed))
    }
}

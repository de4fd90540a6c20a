//! Attempts at flows that are under way: who asks for whom, and where both sockets are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use proto::rendezvous::{FlowIds, Mapped, Nat, Refusal, SessionId};
use proto::{HostId, Name, WireId};

use super::server::Via;

/// An attempt: its session, who asks, its id of the attempt.
pub(super) type Key = (SessionId, HostId, WireId);

/// One attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) name: Name,
    pub(super) round: u8,
    /// The two have a flow, which is to move: handed on, and of no meaning here.
    pub(super) moves: Option<FlowIds>,
    /// The asking side's socket.
    pub(super) asker: Side,
    /// Who is to be asked; 0: whoever has the name.
    pub(super) peer: HostId,
    /// Who is asked, since when, and how often it was told.
    pub(super) asked: HostId,
    pub(super) since: Instant,
    pub(super) times: u32,
    /// Those who were asked before and did not come, and those who said that they do not.
    pub(super) passed: Vec<HostId>,
    pub(super) declines: Vec<HostId>,
    /// Its socket, once it said so.
    pub(super) met: Option<Side>,
    pub(super) declined: Option<Refusal>,
    pub(super) nonce: [u8; 16],
    pub(super) began: Instant,
    /// When it was last asked for; when the other was last told; when it is looked whether it is still asked for.
    pub(super) last: Instant,
    pub(super) told: Instant,
    pub(super) due: Instant,
}

/// A flow's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) id: WireId,
    pub(super) at: SocketAddr,
    pub(super) via: Via,
    pub(super) locals: Vec<SocketAddr>,
    pub(super) nat: Nat,
    pub(super) mapped: Mapped,
    pub(super) round_trip_us: u32,
}

/// Those that there are.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    all: HashMap<Key, Attempt>,
    /// The asker, by who is asked and the asker's id.
    by_asked: HashMap<Key, HostId>,
}

impl Attempts {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Attempt> {
        self.all.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Attempt> {
        self.all.get_mut(key)
    }

    /// Whether neither the key nor what the asked side will say is taken.
    pub(super) fn is_free(&self, key: &Key, asked: HostId) -> bool {
        !self.all.contains_key(key) && self.is_askable(key, asked)
    }

    /// Whether what that side will say is not taken.
    pub(super) fn is_askable(&self, key: &Key, asked: HostId) -> bool {
        !self.by_asked.contains_key(&(key.0, asked, key.2))
    }

    /// Another member is asked from now on; what the one of before says is of no attempt any more.
    pub(super) fn ask_another(&mut self, key: &Key, asked: HostId, passed: Vec<HostId>, now: Instant) {
        let Some(attempt) = self.all.get_mut(key) else { return };
        self.by_asked.remove(&(key.0, attempt.asked, key.2));
        (attempt.asked, attempt.passed, attempt.since, attempt.times) = (asked, passed, now, 0);
        self.by_asked.insert((key.0, asked, key.2), key.1);
    }

    pub(super) fn insert(&mut self, key: Key, attempt: Attempt) {
        self.by_asked.insert((key.0, attempt.asked, key.2), key.1);
        self.all.insert(key, attempt);
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Attempt> {
        let attempt = self.all.remove(key)?;
        self.by_asked.remove(&(key.0, attempt.asked, key.2));
        Some(attempt)
    }

    /// The attempt that `asked` was told of under the asker's id.
    pub(super) fn of_asked(&self, session: SessionId, asked: HostId, attempt: WireId) -> Option<Key> {
        let asker = self.by_asked.get(&(session, asked, attempt))?;
        Some((session, *asker, attempt))
    }

    /// Whether any waits for its other side.
    pub(super) fn any_waits(&self) -> bool {
        self.all.values().any(|attempt| attempt.met.is_none() && attempt.declined.is_none())
    }

    /// Those of one session.
    pub(super) fn of_session(&self, session: SessionId) -> Vec<Key> {
        self.all.keys().filter(|key| key.0 == session).copied().collect()
    }
}

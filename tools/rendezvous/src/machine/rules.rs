//! How a server is to be.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pace::Pace;
use proto::rendezvous::SessionKey;

/// So many seconds' worth of introductions may come at once.
const BURST: Duration = Duration::from_secs(5);

/// What holds for a server.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Local addresses are said only to members behind the same public address.
    pub hide_local: bool,
    /// Under which addresses members reach this server, where that are not those it listens at.
    pub advertise: Vec<IpAddr>,
    /// How much of all.
    pub limits: Limits,
    /// What is relayed; nothing without.
    pub relay: Option<RelayRules>,
    /// The sessions, of different names.
    pub sessions: Vec<SessionRules>,
}

/// One session.
#[derive(Clone, Debug)]
pub struct SessionRules {
    /// Its name.
    pub name: Arc<str>,
    /// Of its key file.
    pub key: SessionKey,
    /// Most members; as many as the limits say without.
    pub members: Option<u32>,
    /// Whether its members may use the relay.
    pub relay: bool,
}

/// How much of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members of a session.
    pub members: u32,
    /// Members of a session that are seen at one address.
    pub members_per_address: u32,
    /// Names of a member.
    pub names: u32,
    /// Datagrams a second from one network (/24, /56) that shows it receives there.
    pub rate: u32,
    /// Introductions a second of one member, five times as many at once.
    pub introductions: u32,
    /// Attempts that are kept.
    pub attempts: u32,
    /// Within that long a member is to be heard again. After four times as long it is forgotten.
    pub refresh: Duration,
}

impl Limits {
    /// A member that was not heard for so long is silent.
    pub(super) fn silent(&self) -> Duration {
        self.refresh * 2 + self.refresh / 2
    }

    /// Of the introductions of one member.
    pub(super) fn pace(&self) -> Pace {
        Pace { interval: Duration::from_secs(1) / self.introductions.max(1), burst: BURST }
    }
}

/// What is relayed. 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayRules {
    /// Pairs at a time.
    pub pairs: u32,
    /// Pairs of one session at a time.
    pub pairs_per_session: u32,
    /// Bytes a second of one pair, each way.
    pub rate: u64,
    /// Bytes of one pair in all.
    pub total: u64,
    /// Bytes a second of one session, both ways.
    pub session_rate: u64,
    /// A pair of which neither side was heard for so long ends.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members: 1_000,
            members_per_address: 256,
            names: 256,
            rate: 1_000,
            introductions: 10,
            attempts: 65_536,
            refresh: Duration::from_secs(25),
        }
    }
}

impl Default for RelayRules {
    fn default() -> Self {
        Self {
            pairs: 1_000,
            pairs_per_session: 50,
            rate: 250_000,
            total: 1_000_000_000,
            session_rate: 2_500_000,
            idle: Duration::from_secs(60),
        }
    }
}

//! What has happened, counted.

use proto::rendezvous::{Malformed, Refusal};

/// Why a datagram went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It makes no sense.
    Malformed(Malformed),
    /// It asks something, and is shorter than what may be answered.
    Unpadded,
    /// More came from its network than may.
    Rate,
    /// It says what nobody says to a server, or says it to a port that is not for it.
    Unasked,
    /// Its member said so before.
    Stale,
    /// Its member's shim was started anew since.
    Replaced,
    /// It does not come from where its member is.
    Elsewhere,
    /// Its session has no room for another member, or its address has too many.
    Full,
    /// Nobody is bound where it comes from.
    Unbound,
    /// The other side is not there yet.
    Alone,
    /// The pair, or its session, relays too much a second.
    RelayRate,
    /// The pair has relayed all that it may.
    RelayQuota,
    /// The kernel did not take it.
    NotSent,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Malformed(Malformed::Empty),
        Self::Malformed(Malformed::Truncated),
        Self::Malformed(Malformed::Header),
        Self::Malformed(Malformed::Field),
        Self::Malformed(Malformed::TooLong),
        Self::Malformed(Malformed::NotControl),
        Self::Malformed(Malformed::Name),
        Self::Malformed(Malformed::Seal),
        Self::Unpadded,
        Self::Rate,
        Self::Unasked,
        Self::Stale,
        Self::Replaced,
        Self::Elsewhere,
        Self::Full,
        Self::Unbound,
        Self::Alone,
        Self::RelayRate,
        Self::RelayQuota,
        Self::NotSent,
    ];

    /// Its name in status and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.as_str(),
            Self::Unpadded => "unpadded",
            Self::Rate => "rate",
            Self::Unasked => "unasked",
            Self::Stale => "stale",
            Self::Replaced => "replaced_boot",
            Self::Elsewhere => "elsewhere",
            Self::Full => "full",
            Self::Unbound => "relay_unbound",
            Self::Alone => "relay_alone",
            Self::RelayRate => "relay_rate",
            Self::RelayQuota => "relay_quota",
            Self::NotSent => "not_sent",
        }
    }

    fn place(self) -> Option<usize> {
        Self::ALL.iter().position(|reason| *reason == self)
    }
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Refusals, as counted.
pub(super) const REFUSALS: [(Refusal, &str); 8] = [
    (Refusal::UnknownName, "unknown_name"),
    (Refusal::Silent, "silent"),
    (Refusal::TooMany, "too_many"),
    (Refusal::Yourself, "yourself"),
    (Refusal::Exhausted, "exhausted"),
    (Refusal::NoRelay, "no_relay"),
    (Refusal::Quota, "quota"),
    (Refusal::UnknownAttempt, "unknown_attempt"),
];

/// What has happened since the start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Datagrams that came, relayed ones not among them, and their bytes.
    pub received: [u64; 2],
    /// Those that were sent, and their bytes.
    pub sent: [u64; 2],
    /// Cookies that were given.
    pub cookies: u64,
    /// What was asked about a session that there is not.
    pub unknown_sessions: u64,
    /// What was asked with another key than the session's.
    pub wrong_keys: u64,
    /// JOINs of members that were there.
    pub refreshes: u64,
    /// Members that came.
    pub joins: u64,
    /// Members that left, and those that were silent for too long.
    pub left: [u64; 2],
    /// Attempts that were begun.
    pub attempts: u64,
    /// Those of which both sides heard where the other is.
    pub met: u64,
    /// Those that the other side never came to.
    pub unmet: u64,
    /// Members that were told of one and did not come, or said no, where another was asked in their place.
    pub passed_on: u64,
    /// Probes of NATs that were answered.
    pub probes: u64,
    /// Pairs that were relayed.
    pub pairs: u64,
    /// Datagrams that were relayed, and their bytes.
    pub relayed: [u64; 2],
    dropped: [u64; Reason::ALL.len()],
    refused: [u64; REFUSALS.len()],
}

impl Counts {
    /// A datagram went nowhere.
    pub fn drop(&mut self, reason: Reason) {
        if let Some(place) = reason.place() {
            self.dropped[place] += 1;
        }
    }

    /// So many did, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Reason::ALL.iter().zip(self.dropped).map(|(reason, count)| (reason.label(), count))
    }

    /// How many did for one reason.
    pub fn dropped_for(&self, reason: Reason) -> u64 {
        reason.place().map_or(0, |place| self.dropped[place])
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        if let Some(place) = REFUSALS.iter().position(|(known, _)| *known == refusal) {
            self.refused[place] += 1;
        }
    }

    /// What was refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REFUSALS.iter().zip(self.refused).map(|((_, label), count)| (*label, count))
    }

    pub(super) fn count(of: &mut [u64; 2], bytes: usize) {
        of[0] += 1;
        of[1] += bytes as u64;
    }
}

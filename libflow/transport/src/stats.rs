//! What a flow can say of its path, and how it is asked to share it.

use std::str::FromStr;
use std::time::Duration;

/// How a sender finds out how much the path bears. Each side chooses for what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Congestion {
    /// Measures bandwidth and round trip, and takes loss for what it mostly is on wireless and long links: chance.
    #[default]
    Bbr3,
    /// RFC 9438: takes every loss for congestion.
    Cubic,
    /// RFC 9002's.
    NewReno,
}

impl Congestion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bbr3, Self::Cubic, Self::NewReno];

    /// "bbr3", "cubic", "newreno".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bbr3 => "bbr3",
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
        }
    }
}

impl std::fmt::Display for Congestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A congestion control of no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no congestion control; use bbr3, cubic or newreno")]
pub struct NoSuchCongestion(String);

impl FromStr for Congestion {
    type Err = NoSuchCongestion;

    fn from_str(text: &str) -> Result<Self, NoSuchCongestion> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or_else(|| NoSuchCongestion(text.to_owned()))
    }
}

/// What a flow has seen of its path. Within a host there is no path: times and windows are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Smoothed round trip.
    pub rtt: Duration,
    /// Bytes that may be under way.
    pub congestion_window: u64,
    /// The longest datagram that the path was found to carry, bytes of UDP payload.
    pub mtu: u16,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Packets taken for lost.
    pub packets_lost: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
}

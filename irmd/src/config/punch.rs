//! `punch` of an `[[ipcp]]`.

use proto::v1;
use serde::{Deserialize, Serialize};

/// What a member of a session does where hellos to the addresses that are known come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Punch {
    /// Nothing.
    Plain,
    /// Hellos to the ports that the other's NAT would give next.
    Predict,
    /// Without a relay, then a search by many sockets or ports.
    Search,
}

impl Punch {
    /// As an IPCP is told; what is left out is its own choice.
    pub(super) fn said(punch: Option<Self>) -> v1::Punch {
        match punch {
            None => v1::Punch::Unspecified,
            Some(Self::Plain) => v1::Punch::Plain,
            Some(Self::Predict) => v1::Punch::Predict,
            Some(Self::Search) => v1::Punch::Search,
        }
    }

    /// The opposite.
    pub(super) fn of(said: v1::Punch) -> Option<Self> {
        match said {
            v1::Punch::Unspecified => None,
            v1::Punch::Plain => Some(Self::Plain),
            v1::Punch::Predict => Some(Self::Predict),
            v1::Punch::Search => Some(Self::Search),
        }
    }
}

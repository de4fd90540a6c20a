//! What `rendezvous status`, `reload` and `stop` say to the one that runs, over its control socket: a line of JSON each way, and
//! the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// How it is.
    Status {
        /// With the members of this session.
        session: Option<String>,
    },
    /// Read the configuration and the key files again.
    Reload,
    /// End: let nobody in any more, and go when nothing waits for it, or after so many milliseconds (none: as long as the
    /// configuration says).
    Stop {
        /// Patience, in milliseconds.
        drain_ms: Option<u64>,
    },
}

/// What is answered.
pub type Answer = service::control::Answer<Status>;

impl service::control::Question for Ask {
    type Status = Status;

    fn is_stop(&self) -> bool {
        matches!(self, Self::Stop { .. })
    }
}

/// How one is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub build: String,
    /// Its process.
    pub pid: u32,
    /// Since its start.
    pub uptime_ms: u64,
    /// The file of its configuration; none where that stood on the command line.
    pub file: Option<String>,
    /// Why the last reload was not taken; all is as before.
    pub reload_failed: Option<String>,
    /// Reloads that were taken.
    pub reloads: u64,
    /// Reloads that were not.
    pub reloads_failed: u64,
    /// It lets nobody in any more.
    pub stopping: bool,
    /// Memory of the process in use.
    pub rss_bytes: u64,
    /// Where members speak to it.
    pub listens: Vec<String>,
    /// Sessions, by name.
    pub sessions: Vec<SessionStatus>,
    /// Members of all sessions.
    pub members: u64,
    /// Attempts that are kept.
    pub attempts: u64,
    /// Pairs that are relayed now.
    pub pairs: u64,
    /// What happened since the start, by name.
    pub counts: BTreeMap<String, u64>,
    /// Datagrams that went nowhere, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Introductions and relaying that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Members of the session that was asked for.
    pub of_session: Vec<MemberStatus>,
}

/// How a session is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its name.
    pub name: String,
    /// Members that are there.
    pub members: u64,
    /// Names that they have.
    pub names: u64,
    /// Attempts at flows since the start.
    pub attempts: u64,
    /// Those of which both sides heard where the other is.
    pub met: u64,
    /// Pairs that are relayed now.
    pub pairs: u64,
}

/// How a member is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its host's id.
    pub host: String,
    /// Where it is seen.
    pub public: String,
    /// What it thinks its addresses are.
    pub locals: Vec<String>,
    /// The names it has.
    pub names: Vec<String>,
    /// Since it came.
    pub age_ms: u64,
    /// Since it was last heard.
    pub silent_ms: u64,
    /// To it and back, as it says.
    pub round_trip_us: Option<u64>,
}

//! What `portfwd status`, `reload` and `stop` say to the forwarder that runs, over its control socket: a line of JSON each
//! way, and the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// How it is; with so many connections, the oldest first.
    Status {
        /// Most connections in the answer.
        connections: usize,
    },
    /// Read the file of rules again.
    Reload,
    /// End: take no connection any more, and go when those that are there are over, or after so many milliseconds (none: as
    /// long as the rules' file says).
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

/// How a forwarder is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub build: String,
    /// Its process.
    pub pid: u32,
    /// Since its start.
    pub uptime_ms: u64,
    /// The file of its rules; none where they stood on the command line.
    pub file: Option<String>,
    /// Why the last reload was not taken; the rules are those of before.
    pub reload_failed: Option<String>,
    /// Reloads that were taken.
    pub reloads: u64,
    /// Reloads that were not.
    pub reloads_failed: u64,
    /// It takes no connection any more.
    pub stopping: bool,
    /// Threads that forward.
    pub workers: usize,
    /// Memory of the process in use.
    pub rss_bytes: u64,
    /// Its rules, in the order of the file.
    pub rules: Vec<RuleStatus>,
    /// Connections that are open, the oldest first.
    pub connections: Vec<ConnectionStatus>,
    /// So many more are open.
    pub left_out: u64,
}

/// How a rule is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// What it is called.
    pub name: String,
    /// Where it listens.
    pub listen: String,
    /// `listening`, `closed` (its target is dead), `removed` (connections of a rule that is gone), or why it cannot listen.
    pub state: String,
    /// Connections, or clients over UDP, that are open now.
    pub open: u64,
    /// Connections that were accepted since the start, those that were then not let in among them.
    pub accepted: u64,
    /// From clients to targets.
    pub bytes_in: u64,
    /// From targets to clients.
    pub bytes_out: u64,
    /// Connections that were not let in or reached no target, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Connections that are over, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Datagrams that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Where it forwards to.
    pub targets: Vec<TargetStatus>,
}

/// How a target is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// As the rule has it.
    pub target: String,
    /// Whether it is taken for alive.
    pub up: bool,
    /// Connections that are open now.
    pub open: u64,
    /// Connections that were made.
    pub connected: u64,
    /// Connections that could not be.
    pub failed: u64,
}

/// How a connection is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The rule's name.
    pub rule: String,
    /// The client's address; `-` where it has none, or is not known.
    pub client: String,
    /// The target; none while it is looked for.
    pub target: Option<String>,
    /// Since it was accepted.
    pub age_ms: u64,
    /// From the client.
    pub bytes_in: u64,
    /// To the client.
    pub bytes_out: u64,
}

//! What `gameproxy status`, `reload` and `stop` say to the one that runs, over its control socket: a line of JSON each way, and
//! the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// How it is; with so many players, those that have been there longest first.
    Status {
        /// Most players in the answer.
        players: usize,
    },
    /// Read the configuration again.
    Reload,
    /// End: let nobody in any more, and go when those who are there have gone, or after so many milliseconds (none: as long as
    /// the configuration says).
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
    /// `local`, `client` or `server`.
    pub role: String,
    /// Its process.
    pub pid: u32,
    /// Since its start.
    pub uptime_ms: u64,
    /// The file of its configuration; none where that stood on the command line, or is told by server sides.
    pub file: Option<String>,
    /// Why the last reload was not taken; the rules are those of before.
    pub reload_failed: Option<String>,
    /// Reloads that were taken.
    pub reloads: u64,
    /// Reloads that were not.
    pub reloads_failed: u64,
    /// It lets nobody in any more.
    pub stopping: bool,
    /// Memory of the process in use.
    pub rss_bytes: u64,
    /// Host names that are not found now: the redirects that need them wait.
    pub unknown_names: Vec<String>,
    /// The ports that players send to.
    pub ports: Vec<String>,
    /// The other sides: of a client its servers, of a server its clients.
    pub ways: Vec<WayStatus>,
    /// Its redirects, in the order of the configuration.
    pub redirects: Vec<RedirectStatus>,
    /// Datagrams from players that were carried.
    pub datagrams_up: u64,
    /// Datagrams from servers that were carried.
    pub datagrams_down: u64,
    /// Their bytes, from players.
    pub bytes_up: u64,
    /// And from servers.
    pub bytes_down: u64,
    /// Datagrams that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Players that came.
    pub came: u64,
    /// Players that went, by reason.
    pub went: BTreeMap<String, u64>,
    /// Datagrams that waited in queues: half of them for no longer than so many µs more than wished.
    pub queue_p50_us: Option<u64>,
    /// And 99 of 100 of them.
    pub queue_p99_us: Option<u64>,
    /// Players that are there.
    pub players_total: u64,
    /// Some of them, those that have been there longest first.
    pub players: Vec<PlayerStatus>,
    /// So many more are there.
    pub left_out: u64,
}

/// How the way to another side is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WayStatus {
    /// The other side: where a client goes, or the address of one that came.
    pub other: String,
    /// Whether it is there.
    pub up: bool,
    /// To it and back.
    pub round_trip_us: Option<u64>,
    /// Players that come through it.
    pub players: u64,
}

/// How a redirect is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RedirectStatus {
    /// What it is called.
    pub name: String,
    /// `open`, `waiting` (a name that it needs is not found), `removed` (players of one that is gone).
    pub state: String,
    /// Players that are there.
    pub players: u64,
    /// Where it goes.
    pub servers: Vec<ServerStatus>,
}

/// How a game server is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// As the configuration has it.
    pub server: String,
    /// Whether it is taken for alive.
    pub up: bool,
    /// Players that are there.
    pub players: u64,
    /// To it and back, where it is asked whether it lives.
    pub round_trip_us: Option<u64>,
}

/// How a player is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlayerStatus {
    /// Its redirect.
    pub redirect: String,
    /// Its address.
    pub client: String,
    /// What it sends to.
    pub orig: String,
    /// Where it plays.
    pub server: String,
    /// The client side that it comes through; none: this one.
    pub through: Option<String>,
    /// Since it came.
    pub age_ms: u64,
    /// Datagrams from it.
    pub up: u64,
    /// Datagrams to it.
    pub down: u64,
    /// Datagrams that wait, both ways.
    pub waiting: u64,
    /// How long its server takes to answer.
    pub answers_in_us: Option<u64>,
}

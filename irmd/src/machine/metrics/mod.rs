//! Metrics: what irmd and its IPCPs have counted, as Prometheus reads it.
//!
//! [`catalogue`] lists every metric there is, [`figures`] says what each of them is at a moment, [`text`] writes that
//! down. Sums over flows are kept in [`sums`], how long allocations took in [`took`]. docs/metrics.md is for readers.

pub mod catalogue;
pub mod census;
pub mod figures;
pub mod sums;
#[cfg(test)]
mod tests;
pub mod text;
pub mod took;

use std::collections::HashMap;

use proto::v1;

pub use catalogue::{CATALOGUE, Kind, Metric};
pub use census::Census;
pub use sums::Sums;
pub use text::Format;
pub use took::{Side, Took};

/// All that is known at the moment of a scrape.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What the registry says.
    pub census: Census,
    /// What each IPCP that answered reports of itself, by its name.
    pub reports: HashMap<String, v1::ReportReply>,
    /// What flows have carried, by layer; never falls.
    pub carried: Vec<(String, v1::Counters)>,
    /// Refused leases and callers, named as in `irm status`.
    pub refused: Vec<(&'static str, u64)>,
    /// irmd's own process.
    pub process: Process,
}

/// A process as the kernel accounts for it. Zeroes where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident: u64,
    /// Address space, bytes.
    pub virtual_memory: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// How many there may be.
    pub max_fds: u64,
    /// When it started, seconds since 1970.
    pub started: f64,
}

//! The table `[options]`: limits and defaults.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::Account;
use crate::machine::Quotas;

/// Events of flows that are kept unless it is said otherwise.
pub const EVENTS: u32 = 4_096;
/// The most that may be.
pub(super) const MOST_EVENTS: u32 = 1_048_576;

/// Limits and defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// How long an allocation waits unless the caller says, milliseconds; 1 to 60,000.
    pub timeout_ms: u32,
    /// Flows that may wait for a program's answer, per name; 1 to 8,192.
    pub backlog: u32,
    /// Flows that a user's programs may hold, with those being allocated.
    pub flows_per_user: u32,
    /// Allocations of a user's programs that may be under way.
    pub pending_per_user: u32,
    /// Names that a user's programs may serve, each process counted by itself.
    pub names_per_user: u32,
    /// Accepts of one process that may wait.
    pub accepts_per_process: u32,
    /// Leases with irmd that a user's programs may hold.
    pub leases_per_user: u32,
    /// Flows that the hosts of one prefix of addresses (/24, /56) may have here.
    pub flows_per_prefix: u32,
    /// Events of flows that are kept for `irm flow events`; 0 to 1,048,576.
    pub events: u32,
    /// Users without these limits, by number; root and irmd's own user unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlimited_users: Option<Vec<u32>>,
    /// A classic caller, who cannot show that it is where it says it is, may have programs started.
    pub classic_starts: bool,
    /// Where a rule judges addresses, a classic caller is believed its own.
    pub classic_addresses: bool,
    /// A host that is trusted with no name yet is, once it shows who it is, and is remembered; else it is refused.
    pub trust_first_use: bool,
    /// The group whose members may administrate, beside root and irmd's own user.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "group")]
    pub admin_group: Option<Account>,
    /// Where metrics are served over HTTP; nowhere unless given.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "address")]
    pub metrics: Option<SocketAddr>,
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    metrics_address(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

/// Where metrics may be served.
pub fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address with a port; write 127.0.0.1:9339 or [::1]:9339"))
}

fn group<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Account>, D::Error> {
    Account::group(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

impl Default for Options {
    fn default() -> Self {
        let quotas = Quotas::default();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            timeout_ms: 5_000,
            // A prefix of addresses may fill a quarter of it, a user of this host a half.
            backlog: 4_096,
            flows_per_user: number(quotas.flows),
            pending_per_user: number(quotas.pending),
            names_per_user: number(quotas.names),
            accepts_per_process: number(quotas.accepts),
            leases_per_user: 1_024,
            flows_per_prefix: number(quotas.prefix),
            events: EVENTS,
            unlimited_users: None,
            classic_starts: false,
            classic_addresses: false,
            trust_first_use: true,
            admin_group: None,
            metrics: None,
        }
    }
}

impl Options {
    /// What one user may have; `own` is irmd's user.
    pub fn quotas(&self, own: u32) -> Quotas {
        Quotas {
            flows: self.flows_per_user as usize,
            pending: self.pending_per_user as usize,
            names: self.names_per_user as usize,
            accepts: self.accepts_per_process as usize,
            prefix: self.flows_per_prefix as usize,
            unlimited: self.unlimited_users.clone().unwrap_or_else(|| vec![0, own]),
        }
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

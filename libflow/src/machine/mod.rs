//! What is decided: what becomes of flows when leases open, are lost and open again, and
//! when to look again before sleeping. Contains no socket and no clock.

mod lease;
#[cfg(test)]
mod lease_tests;
pub(crate) mod spin;

pub(crate) use lease::{CallId, Effect, LeaseTable, Taken};

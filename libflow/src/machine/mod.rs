//! What is decided: what becomes of flows when leases open, are lost and open again; who
//! calls whom in a group; and when to look again before sleeping. Contains no socket and no clock.

pub(crate) mod group;
mod lease;
#[cfg(test)]
mod lease_tests;
pub(crate) mod spin;

pub(crate) use lease::{CallId, Effect, LeaseTable, Taken};

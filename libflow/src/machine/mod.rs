//! What is decided: what becomes of flows when leases open, are lost and open again. Contains no socket and no clock.

mod lease;
#[cfg(test)]
mod lease_tests;

pub(crate) use lease::{CallId, Effect, LeaseTable, Taken};

//! System calls.

pub(crate) mod batch;
pub(crate) mod outbox;
pub(crate) mod socket;

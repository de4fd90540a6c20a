//! System calls.

pub(crate) mod batch;
pub(crate) mod socket;

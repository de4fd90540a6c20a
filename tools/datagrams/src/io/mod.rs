//! System calls.

pub(crate) mod batch;

//! irmd's socket, and signals.

pub(crate) mod admin;
pub(crate) mod signals;

//! irmd's socket, signals, descriptors in a runtime.

pub(crate) mod admin;
pub(crate) mod signals;
pub(crate) mod watch;

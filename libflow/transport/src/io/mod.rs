//! What is done: sockets, timers, tasks.

pub(crate) mod quic;
pub(crate) mod watch;

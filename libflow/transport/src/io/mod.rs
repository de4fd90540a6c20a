//! What is done: sockets, tasks, timers.

pub mod bridge;
pub mod local;
pub(crate) mod quic;
pub(crate) mod watch;

//! What is done: sockets, tasks, timers.

pub mod bridge;
pub mod local;
mod watch;

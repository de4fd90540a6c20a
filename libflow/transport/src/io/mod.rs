//! What is done: sockets, tasks, timers.

pub mod local;
mod watch;

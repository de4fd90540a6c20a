//! What is done: sockets, tasks, timers.

pub(crate) mod watch;

//! What is done: the SEQPACKET sockets, the shared memory, the tasks.

mod lease;
mod listener;
mod packet;
pub(crate) mod server;
mod slots;
pub(crate) mod watch;

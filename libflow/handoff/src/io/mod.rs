//! What is done: the SEQPACKET sockets, the shared memory, the tasks.

mod admission;
pub(crate) mod calls;
pub(crate) mod client;
pub(crate) mod filter;
pub(crate) mod kept;
mod lease;
mod listener;
pub(crate) mod packet;
pub(crate) mod queues;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod slots;
pub(crate) mod stream;
pub(crate) mod watch;

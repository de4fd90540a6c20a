//! What is done: the thread with its gRPC calls and leases, the flows' sockets.

pub(crate) mod batches;
pub(crate) mod core;
mod irm;
pub(crate) mod keeper;
mod lease;
pub(crate) mod park;
mod patience;
pub(crate) mod sdu;
pub(crate) mod syscalls;
pub(crate) mod timer;
mod unwanted;

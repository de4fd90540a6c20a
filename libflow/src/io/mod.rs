//! What is done: the thread with its gRPC calls and leases, the flows' sockets.

pub(crate) mod aside;
pub(crate) mod batches;
pub(crate) mod core;
mod follow;
pub(crate) mod gathering;
mod irm;
pub(crate) mod keeper;
mod lease;
mod moving;
pub(crate) mod mux;
pub(crate) mod papers;
pub(crate) mod park;
mod path;
mod patience;
pub(crate) mod sdu;
pub(crate) mod serving;
pub(crate) mod shake;
pub(crate) mod shaking;
pub(crate) mod syscalls;
pub(crate) mod timer;
mod unwanted;

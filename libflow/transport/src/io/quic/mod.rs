//! QUIC on a flow's socket: the library's view of the socket, its configuration, the handshake, the flow.

pub(crate) mod config;
mod congestion;
pub(crate) mod ending;
pub(crate) mod flow;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod socket;
pub(crate) mod stream;
mod syscalls;
pub(crate) mod tls;

//! What is decided: no socket, clock or task.

pub(crate) mod quic;

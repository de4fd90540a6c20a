//! QUIC between hosts: what binds a handshake to its request, what is said beside the program's own bytes, and what the
//! library's errors mean for a flow.

pub(crate) mod binding;
pub(crate) mod congestion;
pub(crate) mod verdict;
pub(crate) mod welcome;

#[cfg(test)]
mod verdict_tests;

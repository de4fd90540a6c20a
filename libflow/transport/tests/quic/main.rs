//! Flows of QUIC over pairs of UDP sockets on loopback: all that both sides of a flow may do to each other.

mod endings;
mod handshake;
mod hostile;
mod messages;
mod moving;
mod stage;
mod streams;

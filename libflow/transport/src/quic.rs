//! Between hosts: QUIC (RFC 9000) with its datagrams (RFC 9221), on a flow's own UDP socket.
//!
//! 1. [`asking`] and [`accepting`] shake hands: TLS 1.3, both show a certificate, X25519MLKEM768 first, bound to the
//!    request and its answer. [`Answered`] and [`Shown`] know the other side's chain.
//! 2. Whether it is trusted is the caller's to find out. Then [`Shown::admit`] or [`Shown::refuse`]; the asking side waits
//!    in [`Answered::admitted`] for the one or the other.
//! 3. Both have a [`Flow`].
//!
//! `machine/quic` decides what is said and what errors mean; `io/quic` is the library's view of the socket, and the flow.

pub use crate::io::quic::config::{MAX_STREAMS, Options};
pub use crate::io::quic::flow::{Flow, Watch};
pub use crate::io::quic::handshake::{Accepting, Answered, Asking, Shown, accepting, asking};
pub use crate::io::quic::stream::{RecvHalf, SendHalf};
pub use crate::io::quic::tls::Credentials;
pub use crate::machine::quic::verdict::HandshakeError;

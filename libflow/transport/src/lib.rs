//! Message and stream flows on a socket that the daemons handed over: [`quic`] between hosts, [`local`] within one, with
//! the same calls.
//!
//! A stream carries bytes each way, each way ends for itself: finished (all bytes arrive), or reset with a [`Reason`] (the
//! other end is told, what was under way is lost). Messages are unreliable and unordered between hosts.

mod error;
mod half;
mod io;
mod machine;
mod path;
pub mod quic;
mod stats;

pub use error::{MessageError, Over, Reason, StreamError};
pub use half::{RecvStream, SendStream};
pub use io::{bridge, local};
pub use path::Path;
pub use stats::{Congestion, NoSuchCongestion, Stats};

/// For tests/fuzz: a local flow's machine with a peer that says anything.
#[doc(hidden)]
pub fn play_local(story: &[u8]) {
    machine::local::play(story);
}

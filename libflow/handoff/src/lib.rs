//! Hands sockets and statistics memory from Flowring's daemons to programs.
//!
//! A program keeps one **lease** with each daemon whose flows it holds: a SEQPACKET socket on which both speak the
//! packets of [`proto::handoff`]. Over it the program redeems the one-time tokens that gRPC gave it for its flows'
//! sockets; the end of the lease tells either side that the other is gone. One sealed memory of
//! [statistics slots](slot) goes with each lease.
//!
//! [`Stream`] and [`channel`] are what the same processes speak gRPC over, [`Caller`] and [`answers`] how they ask much
//! of one another.
//!
//! * [`server`]: the daemon's half.
//! * [`client`]: the program's half.
//! * [`kept`]: what a daemon keeps so that flows outlive it: keys, seals of tickets, moments.
//!
//! `machine/` decides who gets what and contains no socket and no clock; `io/` owns both.

mod io;
mod machine;

pub mod client;
pub mod filter {
    //! Socket filters, and what they came too late for.
    pub use crate::io::filter::{Rule, TELLS, all_read, attach, clear, keep_out};
}
pub mod kept;
pub mod server;
pub mod service;
pub mod slot;

pub use io::calls::{Answers, Caller, Questions, answers};
pub use io::queues::look;
pub use io::slots::monotonic_us;
pub use io::stream::{Stream, channel, connected_channel};
pub use io::watch::{watch_readable, watch_shared, watch_writable};

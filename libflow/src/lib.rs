//! Flows by name: [`flow_alloc`], [`flow_accept`], [`Flow`].
//!
//! A program asks for a flow to a name; the daemons find it and hand over a kernel socket, and from then on no daemon
//! is in the data path. One [`Flow::send`] is one SDU (a message) at the other end, if it arrives: raw flows are
//! datagrams.
//!
//! A server:
//! ```no_run
#![doc = include_str!("../examples/echo_server.rs")]
//! ```
//! A client:
//! ```no_run
#![doc = include_str!("../examples/echo_client.rs")]
//! ```
//!
//! More wishes than a name and a [`Qos`]: [`Stack::alloc`], [`Stack::listen`]. Groups of programs that have flows with each
//! other: [`Stack::join`]. Programs without tokio: [`blocking`].
//! Programs in C: `flowring.h`.
//!
//! `machine/` decides what becomes of flows when a daemon ends and comes back; `io/` owns the sockets, the thread and
//! the clock.

mod alloc;
mod batch;
mod error;
mod flow;
#[cfg(test)]
mod flow_tests;
mod group;
mod io;
mod listener;
mod machine;
mod peer;
mod stack;
mod stream;

pub mod blocking;

pub use alloc::Alloc;
pub use batch::Batch;
pub use bytes::Bytes;
pub use error::{AcceptError, AllocError, FlowError, JoinError, ListenError, StackError, Unreachable};
pub use flow::Flow;
pub use group::{Group, GroupEvent, Join, MOST_MEMBERS};
pub use listener::{Incoming, Listen, Listener};
pub use peer::{Counters, EndReason, Identity, Peer};
pub use proto::shim::MAX_DATA;
pub use proto::{Cube, FlowId, Qos};
pub use stack::Stack;
pub use stream::{RecvStream, SendStream, Stream};
pub use transport::bridge::{Bridge, Ends};
pub use transport::{Congestion, Over, Reason, Stats as PathStats, StreamError};

/// A flow to `name`, through the irmd that the environment names.
pub async fn flow_alloc(name: &str, qos: Qos) -> Result<Flow, AllocError> {
    Stack::global()?.alloc(name).qos(qos).await
}

/// Serves `name`: created, bound and registered in every layer, through the irmd that the environment names.
pub async fn flow_accept(name: &str) -> Result<Listener, ListenError> {
    Stack::global()?.listen(name).await
}

//! What flows between hosts cost, beside what is below them: TCP, TCP with TLS, the QUIC library on a socket of its own.
//! All on loopback, both ends in this process on a thread each. Each run prints one line of JSON: `cargo run --release -p flowring-transport --example transport-bench`.
#![expect(clippy::disallowed_methods, reason = "a bench opens sockets, reads the clock and keeps its tasks")]

mod bare;
mod flows;
mod handshakes;
mod idle;
mod numbers;
mod stalled;
mod streams;
mod tcp;

use clap::{Parser, Subcommand, ValueEnum};

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carrier {
    /// The kernel's TCP.
    Tcp,
    /// TCP with TLS 1.3 of rustls.
    Tls,
    /// The QUIC library on its own socket.
    Bare,
    /// A flow.
    Flow,
}

#[derive(Parser)]
#[command(name = "transport-bench", about = "Measure flows between hosts on loopback; prints lines of JSON")]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Bytes on one stream, one way: rate, CPU time of both ends.
    Stream(streams::Options),
    /// From a socket to a flow that may be written to.
    Handshake(handshakes::Options),
    /// Memory of a flow that does nothing.
    Idle(idle::Options),
    /// Many streams, of which some are not read.
    Stalled(stalled::Options),
}

fn main() {
    match Options::parse().what {
        What::Stream(options) => streams::run(&options),
        What::Handshake(options) => handshakes::run(&options),
        What::Idle(options) => idle::run(&options),
        What::Stalled(options) => stalled::run(&options),
    }
}

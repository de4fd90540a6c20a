//! The command line.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "forward-load")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Subcommand)]
pub(crate) enum What {
    /// Answers.
    Serve { at: SocketAddr },
    /// Gbit/s of streams.
    Stream {
        to: SocketAddr,
        #[arg(long, default_value_t = 1)]
        streams: usize,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Round trips of 64 bytes.
    Trip {
        to: SocketAddr,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Connections per second.
    Connect {
        to: SocketAddr,
        #[arg(long, default_value_t = 8)]
        abreast: usize,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Holds connections until its input ends.
    Hold {
        to: SocketAddr,
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Clients that join one by one and echo, until the 99th percentile of a round trip is tenfold.
    Climb {
        to: SocketAddr,
        /// Milliseconds between two that join.
        #[arg(long, default_value_t = 2.0)]
        join_ms: f64,
        /// Microseconds between an answer and the next question.
        #[arg(long, default_value_t = 10)]
        gap_us: u64,
        #[arg(long, default_value_t = 9000)]
        most: usize,
    },
}

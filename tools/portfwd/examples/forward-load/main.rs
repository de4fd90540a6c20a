//! Load for forwarders, and what is behind them: `forward-load serve ADDRESS`, and clients that measure. Each connection
//! says with its first byte what it wants.
#![expect(clippy::disallowed_methods, reason = "it measures: clocks, sockets, threads")]

mod cli;
mod climb;
mod measure;
mod serve;

use std::time::Duration;

use clap::Parser as _;

use self::cli::{Cli, What};

/// A byte comes back for each mebibyte. (Not at the end: some forwarders lose what is said to who has ended its half.)
const SINK: u8 = b'S';
const MEBIBYTE: u64 = 1 << 20;
/// All that comes goes back.
const ECHO: u8 = b'E';
/// A byte, and the end.
const TOUCH: u8 = b'T';
/// A byte, and then nothing until the client ends it.
const HOLD: u8 = b'H';

fn main() -> std::io::Result<()> {
    raise_descriptor_limit();
    let seconds = Duration::from_secs_f64;
    match Cli::parse().what {
        What::Serve { at } => serve::run(at),
        What::Stream { to, streams, seconds: time } => measure::stream(to, streams, seconds(time)),
        What::Trip { to, seconds: time } => measure::trip(to, seconds(time)),
        What::Connect { to, abreast, seconds: time } => measure::connect(to, abreast, seconds(time)),
        What::Hold { to, count } => measure::hold(to, count),
        What::Climb { to, join_ms, gap_us, most } => {
            climb::run(to, Duration::from_secs_f64(join_ms / 1e3), Duration::from_micros(gap_us), most)
        }
    }
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

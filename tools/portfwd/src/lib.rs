//! `portfwd`: the port forwarder. Either end of a rule may be a TCP or UDP port, a Unix socket or a flow.
//!
//! [`said`] is what is written: ends, rules, files of them. [`machine`] decides; [`io`] has the sockets, the flows, the
//! clock and the threads. [`cli`] is the command line.

pub mod cli;
pub mod io;
pub mod machine;
pub mod said;

pub use io::run;

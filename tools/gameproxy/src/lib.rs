//! `gameproxy`: carries game datagrams from players to servers, in one process or through flows.
//!
//! [`said`] is what is written and said: rules, layouts of datagrams. [`machine`] decides; [`io`] has the sockets, the
//! flows, the clock and the threads. [`cli`] is the command line.

pub mod cli;
pub mod io;
pub mod machine;
pub mod said;

pub use io::run;

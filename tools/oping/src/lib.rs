//! `oping`: pings a name. [`cli`] is the command line, [`machine`] knows when to send and what a reply means, [`io`] has
//! the flow, the clock and the terminal.

pub mod cli;
pub mod io;
pub mod machine;

pub use io::run;

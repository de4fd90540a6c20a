//! `flowcat`: netcat over flows. [`cli`] is the command line, [`machine`] knows when a conversation is over and what came of
//! it, [`io`] has the flow, the pipes and the child processes.

pub mod cli;
pub mod io;
pub mod machine;

pub use io::run;

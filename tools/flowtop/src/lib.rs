//! `flowtop`: a host's flows on a terminal. [`cli`] is the command line, [`machine`] what is shown and what keys do,
//! [`io`] the terminal and irmd.

pub mod cli;
pub mod io;
pub mod machine;

pub use io::run;

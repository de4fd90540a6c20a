//! `operf`: measures flows. [`cli`] is the command line, [`machine`] has the test's parameters, its SDUs, the accounts and
//! the results, [`io`] has the flow or the bare socket, and the clocks.

pub mod cli;
pub mod io;
pub mod machine;

pub use io::run;

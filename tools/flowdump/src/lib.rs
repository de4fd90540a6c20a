//! `flowdump`: what Flowring's hosts said to each other, from captures. [`cli`] is the command line, [`machine`] knows what
//! each datagram is and which flow it belongs to, [`io`] reads files and prints.

pub mod cli;
pub mod io;
pub mod machine;

pub use io::run;

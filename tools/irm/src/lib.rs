//! `irm`, the administrator's tool. [`cli`] is the command line, [`machine`] turns what irmd says into tables and
//! JSON, [`io`] talks to irmd and prints.

pub mod cli;
pub mod io;
pub mod machine;

pub use io::run;

//! `rendezvous`: the well-known server at which hosts behind NATs find each other (`docs/rendezvous.md`).
//!
//! [`said`] is what is written: the configuration, what `status` asks; datagrams are in `proto`. [`machine`] decides; [`io`] has
//! the sockets, the clock, the files. [`cli`] is the command line.

pub mod cli;
pub mod io;
pub mod machine;
pub mod said;

pub use io::run;

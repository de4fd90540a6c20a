//! What is done: files, sockets, look-ups.

mod behind;
pub mod control;
pub mod end;
pub mod folder;
pub mod logfile;
pub mod page;
pub mod print;
pub mod process;
pub mod reloads;
pub mod resolve;
pub mod signals;
pub mod source;

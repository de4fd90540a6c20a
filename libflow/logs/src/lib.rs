//! Logs of the daemons.
//!
//! One filter per process, which may be changed while it runs ([`answer`]), and one of three formats: lines for people,
//! lines of JSON, or entries of systemd's journal. What peers and programs chose is written so that it can neither
//! speak to a terminal nor begin a line of its own.

pub mod io;
pub mod machine;

pub use io::{Format, answer, lasting, note_late, start};
pub use machine::filter::{Filter, FilterError, State};

//! What is written: ends and rules as users write them, and what goes over tracks.

pub mod classic;
pub mod config;
pub mod end;
pub mod file;
pub mod frame;
pub mod head;
pub mod join;
pub mod rule;
pub mod tracks;

//! What is written: ends, rules, and the files that hold them.

pub mod control;
pub mod end;
pub mod file;
mod lines;
pub mod rule;
mod toml;

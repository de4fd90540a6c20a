//! What is written and what is said: rules, and the layout of what goes between the two sides.

pub mod control;
pub mod file;
pub mod frame;
pub mod grammar;
pub mod offer;
pub mod probe;
pub mod query;
pub mod rule;
mod toml;
mod values;
mod words;

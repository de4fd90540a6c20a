//! What is decided: which filters are good, which one holds, how a line is made harmless.

pub mod escape;
pub mod filter;

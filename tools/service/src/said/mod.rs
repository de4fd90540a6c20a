//! What is written.

pub mod fault;
pub mod values;

//! What is written.

pub(crate) mod fault;
pub mod values;

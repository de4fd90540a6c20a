//! What is decided.

pub mod door;
pub mod front;

//! What is decided.

pub mod door;
pub mod front;
pub mod pace;
pub mod pool;
pub mod queue;
pub mod routes;

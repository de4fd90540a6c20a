//! What is decided.

pub mod again;
pub mod door;
pub mod front;
pub mod pace;
pub mod pool;
pub mod pulse;
pub mod queue;
pub mod routes;

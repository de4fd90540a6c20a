//! What is decided.

pub mod again;
pub mod door;
pub mod explain;
pub mod fair;
pub mod front;
pub mod line;
pub mod matching;
pub mod metrics;
pub mod names;
pub mod offer;
pub mod pieces;
pub mod pool;
pub mod pulse;
pub mod queue;
pub mod routes;
pub mod show;
pub mod tell;

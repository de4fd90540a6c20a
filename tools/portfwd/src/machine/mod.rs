//! What is decided: values in, values out.

pub mod admit;
pub mod cause;
pub mod life;
pub mod metrics;
pub mod pool;
pub mod reload;
pub mod table;
pub mod text;
pub mod udp;

//! What `operf` decides: what a test is, what its SDUs say, what was lost, how results read. Values in, values out.

pub mod account;
pub mod arrivals;
pub mod latency;
pub mod params;
pub mod result;
pub mod sdu;

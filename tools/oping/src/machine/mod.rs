//! What `oping` decides: when to send, what a reply means, how the result reads. Values in, values out.

pub mod ping;
pub mod sdu;
pub mod stats;
pub mod text;
pub mod window;

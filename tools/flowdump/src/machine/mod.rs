//! What datagrams are, and how that reads.

pub mod hex;
pub mod row;
pub mod tap;
pub mod words;

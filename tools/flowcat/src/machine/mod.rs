//! What is decided: when a conversation is over, what came of it, and how that reads.

pub mod conversation;
pub mod text;

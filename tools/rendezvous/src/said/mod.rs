//! What is written and said: the configuration, and what `status`, `reload` and `stop` say to the server that runs.

pub mod control;
pub mod file;

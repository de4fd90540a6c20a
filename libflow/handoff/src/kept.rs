//! What a daemon keeps over restarts, so that flows outlive it: keys in files, tickets sealed with them, moments.

pub use crate::io::kept::{epoch, random, secret};
pub use crate::machine::epoch::Epoch;
pub use crate::machine::seal::{KEY, Reader, SEAL, put_text, seal, unseal};

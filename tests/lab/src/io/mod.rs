//! Moving frames: packet sockets, the thread between them, what the kernel would do to frames on
//! the way, and what it remembers of them.

pub(crate) mod conntrack;
pub(crate) mod emulator;
pub(crate) mod offload;
pub(crate) mod packet;
mod ring;

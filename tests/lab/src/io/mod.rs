//! Moving frames: packet sockets, the thread between them, and what the kernel would do to frames on the way.

pub(crate) mod emulator;
pub(crate) mod offload;
pub(crate) mod packet;
mod ring;

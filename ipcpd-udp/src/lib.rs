//! The shim IPC process over UDP: one layer over IP.
//!
//! [`machine`] decides, [`io`] does, [`config`] is what either is told. Start with [`machine`]'s first lines, then
//! docs/shim-udp.md.

pub mod config;
pub mod io;
pub mod machine;

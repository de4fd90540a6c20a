//! The shim IPC process over UDP: one layer over IP.
//!
//! [`machine`] decides, `io` does. Start with [`machine`]'s first lines, then docs/shim-udp.md.

pub mod machine;

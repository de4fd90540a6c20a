//! The IRM daemon: names, the processes and programs that serve them, IPCPs, and every flow of this host.
//!
//! [`machine`] decides, [`io`] does, [`config`] reads and writes what lasts. irmd never sees a packet: flows are
//! kernel sockets that it (for flows within the host) or an IPCP hands to the programs.

pub mod cli;
pub mod config;
pub mod io;
pub mod machine;

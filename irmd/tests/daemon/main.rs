//! The daemon itself: real processes, real sockets, fake IPCPs.

mod fake;
mod flows;
mod hostile;
mod identity;
mod ipcps;
mod life;
mod names;
mod outlive;
mod programs;
mod stage;

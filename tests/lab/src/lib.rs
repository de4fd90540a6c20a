//! Hosts on one machine: each with its own network, run directory and daemons, made without root and gone with the
//! process that made them.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! lab::binaries::prepare(Default::default())?; // builds what the hosts run
//! lab::enter()?;                        // first thing in main: namespaces of our own
//! let lab = lab::Lab::new()?;           // a switch
//! let [a, b] = lab.hosts(["a", "b"])?;  // 10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2
//! let irmd = a.irmd().start()?;
//! a.bootstrap(&[("echo", &b)])?;
//! let ping = a.command("oping").args(["echo", "-c", "3"]).output()?;
//! # drop((irmd, ping)); Ok(()) }
//! ```
//!
//! [`Lab::on_loopback`] makes the same hosts of two run directories on 127.0.0.x, where namespaces are refused.
//!
//! A host's link can be slow, lossy or cut ([`Host::link`]), and a host can be behind a middlebox
//! ([`Lab::host_behind`]):
//!
//! ```no_run
//! # use {lab::{Lab, Link, Middlebox}, std::time::Duration};
//! # fn main() -> anyhow::Result<()> { let lab = Lab::new()?;
//! let [a] = lab.hosts(["a"])?;
//! a.link().set(Link { delay: Duration::from_millis(50), loss: 0.1, seed: 7, ..Link::CLEAN })?;
//! let c = lab.host_behind("c", Middlebox::PortRestricted)?;
//! # Ok(()) }
//! ```
//!
//! All of it is gone with the process, however that ends. docs/lab.md tells more.

#![expect(clippy::disallowed_methods, reason = "the lab is all doing: clocks, sockets, processes")]

mod at_router;
pub mod binaries;
mod daemon;
mod enter;
mod host;
mod host_link;
mod interrupt;
mod io;
mod lab;
mod machine;
mod neighbours;
mod net;
mod process;
mod router;
mod switch;
mod sys;
mod wait;
mod way;

pub use daemon::{Daemon, IrmdBuilder};
pub use enter::{Inside, Refused, enter};
pub use host::Host;
pub use host_link::HostLink;
pub use interrupt::Interrupts;
pub use lab::Lab;
pub use machine::link::{Burst, Counts, Link};
pub use machine::middlebox::{Behaviour, Middlebox};
pub use process::{Output, Running, last_words};
pub use rustix::process::Signal;
pub use wait::{Deadline, wait_until};

/// Whether [middleboxes](Middlebox) can be made here; the error says why not. Needs [`enter()`] first.
pub fn probe_middleboxes() -> anyhow::Result<()> {
    router::probe()
}

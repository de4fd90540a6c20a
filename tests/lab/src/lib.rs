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
//! Links with delay and loss, NATs and routers are not here yet; a switch's port (`net`) is where a link
//! emulator goes, a host between two switches where a NAT goes.

#![expect(clippy::disallowed_methods, reason = "the lab is all doing: clocks, sockets, processes")]

pub mod binaries;
mod daemon;
mod enter;
mod host;
mod interrupt;
mod net;
mod process;
mod sys;
mod wait;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result, bail};

pub use daemon::{Daemon, IrmdBuilder};
pub use enter::{Inside, Refused, enter};
pub use host::Host;
pub use interrupt::Interrupts;
pub use process::{Output, Running, last_words};
pub use rustix::process::Signal;
pub use wait::{Deadline, wait_until};

use net::Switch;

/// A switch and the hosts on it.
pub struct Lab {
    folder: tempfile::TempDir,
    network: Network,
    hosts: AtomicU8,
}

enum Network {
    Namespaces(Switch),
    /// 127.0.0.x and this port.
    Loopback(u16),
}

impl Lab {
    /// A lab whose hosts are network namespaces. Needs [`enter()`] first.
    pub fn new() -> Result<Self> {
        Ok(Self { folder: folder()?, network: Network::Namespaces(Switch::new()?), hosts: AtomicU8::new(0) })
    }

    /// A lab whose hosts are run directories on 127.0.0.1, 127.0.0.2, … with the shim on one free UDP port.
    pub fn on_loopback() -> Result<Self> {
        Ok(Self { folder: folder()?, network: Network::Loopback(free_port()?), hosts: AtomicU8::new(0) })
    }

    /// Hosts with these names, at most 200 in all. The first of a lab has 10.0.0.1 and fd00::1 (on loopback:
    /// 127.0.0.1 and no IPv6 address), the next the next.
    pub fn hosts<const N: usize>(&self, names: [&str; N]) -> Result<[Host; N]> {
        let hosts = names.iter().map(|name| self.host(name)).collect::<Result<Vec<_>>>()?;
        Ok(hosts.try_into().unwrap_or_else(|_| unreachable!("as many hosts as names")))
    }

    fn host(&self, name: &str) -> Result<Host> {
        let counted =
            self.hosts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |hosts| (hosts < 200).then_some(hosts + 1));
        let Ok(others) = counted else { bail!("a lab has at most 200 hosts") };
        let number = others + 1;
        let run_dir = self.folder.path().join(name);
        std::fs::create_dir(&run_dir).with_context(|| format!("the run directory of host {name}"))?;
        match &self.network {
            Network::Namespaces(switch) => {
                let address = Ipv4Addr::new(10, 0, 0, number);
                let address6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into());
                let namespace = switch.attach(number, &[IpAddr::V4(address), IpAddr::V6(address6)])?;
                Ok(Host::new(name, run_dir, address, Some(address6), 3359, Some(namespace)))
            }
            Network::Loopback(port) => {
                Ok(Host::new(name, run_dir, Ipv4Addr::new(127, 0, 0, number), None, *port, None))
            }
        }
    }
}

/// Run directories hold Unix sockets, whose paths are short: so not under a long $TMPDIR.
fn folder() -> Result<tempfile::TempDir> {
    let folder =
        tempfile::Builder::new().prefix("flow").tempdir_in("/tmp").context("a folder for the lab under /tmp")?;
    // Hosts have users; who may do what is the daemons' to say.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// A port that is free on 127.0.0.1 and 127.0.0.2 now.
fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let first = std::net::UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 1), 0))?;
        let port = first.local_addr()?.port();
        if std::net::UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no UDP port is free on both 127.0.0.1 and 127.0.0.2")
}

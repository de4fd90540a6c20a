//! What runs on the middlebox before a host: `sw` is its inside, `eth0` its outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::net::{Namespace, inside};
use crate::{Host, Running, sys};

/// How long a command that only asks and answers may take.
const ANSWER: Duration = Duration::from_secs(20);

impl Host {
    fn router(&self) -> Result<&Namespace> {
        self.innermost().with_context(|| format!("{} is behind no middlebox", self.name()))
    }

    /// The address at which this host knows its middlebox.
    pub fn router_address(&self) -> Result<IpAddr> {
        let IpAddr::V4(own) = self.address() else { anyhow::bail!("{} has no IPv4 address", self.name()) };
        let [a, b, c, _] = own.octets();
        Ok(IpAddr::V4(Ipv4Addr::new(a, b, c, 1)))
    }

    /// Starts a program on the middlebox before this host.
    pub fn start_at_router<S: AsRef<str>>(&self, program: &str, args: &[S]) -> Result<Running> {
        let mut command = Command::new(program);
        command.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin");
        sys::prepare(&mut command, Some(self.router()?.clone()), false);
        command.args(args.iter().map(AsRef::as_ref));
        Running::start(&format!("router of {}: {program}", self.name()), command)
    }

    /// Runs a program there to its end; what it wrote.
    pub fn run_at_router<S: AsRef<str>>(&self, program: &str, args: &[S]) -> Result<String> {
        let mut running = self.start_at_router(program, args)?;
        drop(running.input());
        let output = running.wait(ANSWER)?;
        ensure!(output.code() == 0, "{program}: {}", output.err.trim());
        Ok(output.out)
    }

    /// A UDP socket on the middlebox' inside: what answers there.
    pub fn socket_at_router(&self, port: u16) -> Result<UdpSocket> {
        let at = SocketAddr::new(self.router_address()?, port);
        Ok(inside(Some(self.router()?), || UdpSocket::bind(at))??)
    }
}

//! Two hosts, ready for flows: the stage of most end-to-end tests.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Daemon, Host, Lab};
use serde_json::Value;

/// Long enough for anything that works, on a loaded machine.
pub const SOON: Duration = Duration::from_secs(10);

/// What comes within this came of itself: no deadline of whoever asked had to pass. How fast it comes is for the
/// benchmarks to say, which measure on a quiet machine.
pub const AT_ONCE: Duration = Duration::from_secs(5);

/// Hosts a and b on a switch; on each an irmd with one IPCP `udp0` in layer `net`.
pub struct Net {
    /// The host that asks, in most tests.
    pub a: Host,
    /// The host that serves.
    pub b: Host,
    /// irmd of a.
    pub irmd_a: Daemon,
    /// irmd of b.
    pub irmd_b: Daemon,
    // Last: daemons end before their network does.
    lab: Lab,
}

impl Net {
    /// Host a finds `names` at host b, over IPv4.
    pub fn up(names: &[&str]) -> Result<Self> {
        let net = Self::bare()?;
        let at_b: Vec<(&str, &Host)> = names.iter().map(|name| (*name, &net.b)).collect();
        net.a.bootstrap(&at_b)?;
        net.b.bootstrap(&[])?;
        Ok(net)
    }

    /// The same over IPv6.
    pub fn up6(names: &[&str]) -> Result<Self> {
        let net = Self::bare()?;
        let at_b: Vec<(&str, &Host)> = names.iter().map(|name| (*name, &net.b)).collect();
        net.a.bootstrap6(&at_b)?;
        net.b.bootstrap6(&[])?;
        Ok(net)
    }

    /// No IPCP yet.
    pub fn bare() -> Result<Self> {
        let lab = Lab::new()?;
        let [a, b] = lab.hosts(["a", "b"])?;
        Self::of(lab, a, b)
    }

    /// Two hosts of a lab of the test's own: behind middleboxes, say. No IPCP yet.
    pub fn of(lab: Lab, a: Host, b: Host) -> Result<Self> {
        let (irmd_a, irmd_b) = (a.irmd().start()?, b.irmd().start()?);
        Ok(Self { a, b, irmd_a, irmd_b, lab })
    }

    /// One more host on the switch, without daemons.
    pub fn another(&self, name: &str) -> Result<Host> {
        let [host] = self.lab.hosts([name])?;
        Ok(host)
    }
}

/// The rows of `irm flow list` at `host`.
pub fn flows(host: &Host) -> Result<Vec<Value>> {
    host.list("flow list")
}

/// Waits until `host` lists exactly `count` flows.
pub fn await_flows(host: &Host, count: usize) -> Result<Vec<Value>> {
    let mut rows = Ok(Vec::new());
    let listed = lab::wait_until(SOON, &format!("{count} flows at host {}", host.name()), || {
        rows = flows(host);
        rows.as_ref().is_ok_and(|rows| rows.len() == count)
    });
    match (listed, rows) {
        (Ok(()), rows) => rows,
        (Err(late), Ok(rows)) if rows.len() < 20 => Err(late.context(format!("it lists {rows:#?}"))),
        (Err(late), Ok(rows)) => Err(late.context(format!("it lists {} flows", rows.len()))),
        (Err(late), Err(error)) => Err(error.context(late)),
    }
}

/// The row of the IPCP `udp0` at `host`.
pub fn ipcp(host: &Host) -> Result<Value> {
    let rows = host.list("ipcp list")?;
    rows.into_iter().find(|row| row["name"] == "udp0").context("udp0 is not listed")
}

/// How many seconds `work` took, with what it gave.
#[expect(clippy::disallowed_methods, reason = "measures real daemons")]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = std::time::Instant::now();
    let value = work();
    (value, began.elapsed())
}

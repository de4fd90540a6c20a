//! A lab: a switch and the hosts on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

use crate::host::{self, Inner};
use crate::host_link::Wire;
use crate::router;
use crate::switch::{Place, Switch};
use crate::{Host, Middlebox};

/// A switch and the hosts on it.
pub struct Lab {
    folder: tempfile::TempDir,
    /// What addresses on the switch begin with.
    outer: [u8; 3],
    network: Network,
    hosts: AtomicU8,
    /// A host's link passes nothing once nobody holds the host; a router that nobody talks to would be a black hole.
    kept: Mutex<Vec<Host>>,
}

enum Network {
    Namespaces(Arc<Switch>),
    /// 127.0.0.x and this port.
    Loopback(u16),
}

impl Lab {
    /// A lab whose hosts are network namespaces. Needs [`enter()`](crate::enter()) first.
    pub fn new() -> Result<Self> {
        Ok(Self::of(folder()?, Network::Namespaces(Arc::new(Switch::new()?))))
    }

    /// The same with addresses that are of the whole Internet, 11.0.0.1 in place of 10.0.0.1: some programs take no others for public.
    pub fn with_public_addresses() -> Result<Self> {
        Ok(Self { outer: [11, 0, 0], ..Self::new()? })
    }

    /// A lab whose hosts are run directories on 127.0.0.1, 127.0.0.2, … with the shim on one free UDP port.
    pub fn on_loopback() -> Result<Self> {
        Ok(Self::of(folder()?, Network::Loopback(free_port()?)))
    }

    fn of(folder: tempfile::TempDir, network: Network) -> Self {
        Self { folder, outer: [10, 0, 0], network, hosts: AtomicU8::new(0), kept: Mutex::default() }
    }

    /// A host that lives as long as the lab.
    fn keep(&self, inner: Inner) -> Host {
        let host = Host::new(inner);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(host.clone());
        host
    }

    /// Hosts with these names, at most 200 in all. The first of a lab has 10.0.0.1 and fd00::1 (on loopback:
    /// 127.0.0.1 and no IPv6 address), the next the next. A middlebox counts as one, too.
    pub fn hosts<const N: usize>(&self, names: [&str; N]) -> Result<[Host; N]> {
        let hosts = names.iter().map(|name| self.host(name)).collect::<Result<Vec<_>>>()?;
        Ok(hosts.try_into().unwrap_or_else(|_| unreachable!("as many hosts as names")))
    }

    /// A host behind a middlebox of its own, with IPv4 only. [`Host::address`] is its own, [`Host::public`] the one
    /// that others see.
    pub fn host_behind(&self, name: &str, kind: Middlebox) -> Result<Host> {
        self.server_behind(name, kind, &[])
    }

    /// A host behind a middlebox that lets UDP to its ports in `forwarded` in from everywhere: `&[3359..=3359,
    /// 40000..=40009]`.
    pub fn server_behind(&self, name: &str, kind: Middlebox, forwarded: &[RangeInclusive<u16>]) -> Result<Host> {
        let [host] = self.behind([name], kind, forwarded)?;
        Ok(host)
    }

    /// Hosts behind one middlebox. A cone gives a port to whoever used it last: two hosts that send from one port
    /// disturb each other there.
    pub fn hosts_behind<const N: usize>(&self, names: [&str; N], kind: Middlebox) -> Result<[Host; N]> {
        self.behind(names, kind, &[])
    }

    fn behind<const N: usize>(
        &self,
        names: [&str; N],
        kind: Middlebox,
        forwarded: &[RangeInclusive<u16>],
    ) -> Result<[Host; N]> {
        let switch = self.outside()?;
        router::check(forwarded)?;
        let number = self.number()?;
        let addresses = (2_u8..).zip(&names).map(|(host, _)| match kind.translates() {
            true => Ok(router::inner_address(number, host)),
            false => self.number().map(|own| self.outer(own)),
        });
        let addresses = addresses.collect::<Result<Vec<_>>>()?;
        let owned = if kind.translates() { &[][..] } else { &addresses };
        let server = addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let outer = self.outer(number);
        let plan = router::Plan { kind, number, outer, server, forwarded, owned, hairpin: false };
        let inside = plan.build(switch).with_context(|| format!("a {kind} middlebox"))?;
        let hosts = (2_u8..).zip(names).zip(&addresses).map(|((number, name), address)| {
            self.place(&inside, number, name, *address, if kind.translates() { 24 } else { 32 })
        });
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        Ok(hosts.try_into().unwrap_or_else(|_| unreachable!("as many hosts as names")))
    }

    /// The switch that middleboxes are on.
    pub(crate) fn outside(&self) -> Result<&Arc<Switch>> {
        match &self.network {
            Network::Namespaces(switch) => Ok(switch),
            Network::Loopback(_) => bail!("there is no middlebox on loopback; make the lab with Lab::new"),
        }
    }

    /// A host behind a box, number `number` of the switch there.
    pub(crate) fn place(
        &self,
        inside: &router::Inside,
        number: u8,
        name: &str,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<Host> {
        let addresses = &[(IpAddr::V4(address), prefix)];
        let namespace = inside.switch.attach(&Place { number, addresses, gateway: Some(inside.gateway) })?;
        let wire = Wire::new(inside.switch.clone(), number);
        let network = host::Network { namespace, wire, boxes: inside.boxes.clone() };
        let (run_dir, name, public) = (self.run_dir(name)?, name.to_owned(), inside.public);
        Ok(self.keep(Inner { name, run_dir, address, public, address6: None, port: 3359, network: Some(network) }))
    }

    fn host(&self, name: &str) -> Result<Host> {
        let number = self.number()?;
        let (run_dir, name) = (self.run_dir(name)?, name.to_owned());
        let Network::Namespaces(switch) = &self.network else {
            let Network::Loopback(port) = self.network else { unreachable!("one of two") };
            let address = Ipv4Addr::new(127, 0, 0, number);
            return Ok(self.keep(Inner { name, run_dir, address, public: None, address6: None, port, network: None }));
        };
        let address = self.outer(number);
        let address6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into());
        let addresses = &[(IpAddr::V4(address), 24), (IpAddr::V6(address6), 64)];
        let namespace = switch.attach(&Place { number, addresses, gateway: None })?;
        let network = Some(host::Network { namespace, wire: Wire::new(switch.clone(), number), boxes: Vec::new() });
        let address6 = Some(address6);
        Ok(self.keep(Inner { name, run_dir, address, public: None, address6, port: 3359, network }))
    }

    fn run_dir(&self, name: &str) -> Result<PathBuf> {
        let run_dir = self.folder.path().join(name);
        std::fs::create_dir(&run_dir).with_context(|| format!("the run directory of host {name}"))?;
        Ok(run_dir)
    }

    /// The address of a number on the switch.
    pub(crate) fn outer(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.outer;
        Ipv4Addr::new(a, b, c, number)
    }

    /// The next number of a host or middlebox.
    pub(crate) fn number(&self) -> Result<u8> {
        let counted =
            self.hosts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |hosts| (hosts < 200).then_some(hosts + 1));
        let Ok(others) = counted else { bail!("a lab has at most 200 hosts and middleboxes") };
        Ok(others + 1)
    }
}

/// Run directories hold Unix sockets, whose paths are short: so not under a long $TMPDIR.
fn folder() -> Result<tempfile::TempDir> {
    let place = crate::enter::folder();
    let folder = tempfile::Builder::new().prefix("flow").tempdir_in(place);
    let folder = folder.with_context(|| format!("a folder for the lab under {}", place.display()))?;
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

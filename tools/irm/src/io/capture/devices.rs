//! The network devices of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use capture::{Interface, Link, Pcapng};
use nix::ifaddrs::getifaddrs;

use super::super::Fault;

/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`: both begin with Ethernet's header.
const ETHERNET: [u16; 2] = [1, 772];

/// The devices that have addresses, by name.
pub(super) fn with_addresses() -> Result<(BTreeSet<String>, BTreeSet<IpAddr>), Fault> {
    let all = getifaddrs().map_err(|error| Fault::Unable(format!("cannot list this host's addresses: {error}")))?;
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for one in all {
        let address = one.address.as_ref().and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        if let Some(address) = address {
            names.insert(one.interface_name);
            addresses.insert(address);
        }
    }
    Ok((names, addresses))
}

/// The devices that packets came through, as the file names them.
pub(super) struct Devices {
    /// Only one is listened at, as somebody wanted, whatever it is.
    one: bool,
    /// By number: the file's number and how packets begin; none where what passes there passes elsewhere again.
    known: BTreeMap<u32, Option<(u32, Link)>>,
}

impl Devices {
    /// None yet; `one`: the only one that is listened at.
    pub(super) fn new(one: bool) -> Self {
        Self { one, known: BTreeMap::new() }
    }

    /// The device of a packet, said in the file before its first one.
    pub(super) fn find(
        &mut self,
        (device, hardware): (u32, u16),
        (snap, filter): (u32, &str),
        file: &mut Pcapng,
        mut say: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<Option<(u32, Link)>, Fault> {
        if let Some(known) = self.known.get(&device) {
            return Ok(*known);
        }
        let name = nix::net::if_::if_indextoname(device).ok().and_then(|name| name.into_string().ok());
        // A bridge's or a bond's port has no address: what passes it passes the bridge, too.
        let name = name.filter(|name| self.one || with_addresses().is_ok_and(|(names, _)| names.contains(name)));
        let known = match name {
            None => None,
            Some(name) => {
                let link = if ETHERNET.contains(&hardware) { Link::ETHERNET } else { Link::RAW };
                let (number, bytes) = file.interface(&Interface { name: &name, link, snap, filter });
                say(&bytes)?;
                Some((number, link))
            }
        };
        self.known.insert(device, known);
        Ok(known)
    }

    /// The file's numbers of all that were said.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.known.values().flatten().map(|(number, _)| *number)
    }
}

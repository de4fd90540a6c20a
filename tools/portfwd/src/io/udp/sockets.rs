//! Sockets for datagrams: those that clients speak to, and those that speak to a target.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use proto::forward::Verdict;
use rustix::io::Errno;

use super::batch;
use crate::io::dial::zoned;
use crate::io::running::Target;
use crate::machine::cause::Refusal;
use crate::said::end::{End, Host, Place};

/// The socket that a rule's clients speak to.
pub(crate) fn open(place: &Place) -> io::Result<OwnedFd> {
    let port = place.ports.first();
    match &place.host {
        Host::This => match bound((Ipv6Addr::UNSPECIFIED, port).into()) {
            // A host without IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => Ok(bound((Ipv4Addr::UNSPECIFIED, port).into())?),
            done => Ok(done?),
        },
        Host::Address(IpAddr::V6(address), zone) => Ok(bound(SocketAddrV6::new(*address, port, 0, *zone).into())?),
        Host::Address(address, _) => Ok(bound(SocketAddr::new(*address, port))?),
        Host::Zoned(there) => Ok(bound(zoned(there, port)?)?),
        Host::Named(name) => {
            let mut found = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port))?;
            let first = found.next().ok_or_else(|| io::Error::other(format!("{name} has no address")))?;
            Ok(bound(first)?)
        }
    }
}

fn bound(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = batch::bound(address)?;
    batch::join(&socket);
    Ok(socket)
}

/// A socket connected to a target. A name that has not been looked up yet is an error, and is looked up.
pub(super) fn connected(target: &Target) -> Result<OwnedFd, Refusal> {
    let End::Udp(Place { host, ports }) = &target.end else {
        return Err(Refusal::here(Verdict::Failed, format!("{} takes no datagrams", target.end)));
    };
    let port = ports.first();
    let address: SocketAddr = match (host, &target.host) {
        (Host::This, _) => (Ipv4Addr::LOCALHOST, port).into(),
        (Host::Address(IpAddr::V6(address), zone), _) => SocketAddrV6::new(*address, port, 0, *zone).into(),
        (Host::Address(address, _), _) => (*address, port).into(),
        (Host::Zoned(there), _) => {
            zoned(there, port).map_err(|error| Refusal::here(Verdict::Unreachable, error.to_string()))?
        }
        (Host::Named(name), named) => {
            let known = named.as_ref().and_then(|named| named.at_hand());
            let first = known.as_ref().and_then(|known| known.first().copied());
            let first =
                first.ok_or_else(|| Refusal::here(Verdict::UnknownHost, format!("{name} has no address yet")))?;
            (first, port).into()
        }
    };
    let made = batch::socket(address).and_then(|socket| {
        batch::join(&socket);
        rustix::net::connect(&socket, &address).map(|()| socket)
    });
    made.map_err(|errno| Refusal::of_dial(&errno.into()))
}

//! Sockets for datagrams: those that clients speak to, and those that speak to a target.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use proto::forward::Verdict;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::batch;
use crate::io::running::Target;
use crate::machine::cause::Refusal;
use crate::said::end::{End, Host, Place};

/// What is asked of the kernel for what waits to be read, bytes. It gives others less than root.
const BUFFER: usize = 4 << 20;

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
        Host::Named(name) => {
            let mut found = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port))?;
            let first = found.next().ok_or_else(|| io::Error::other(format!("{name} has no address")))?;
            Ok(bound(first)?)
        }
    }
}

fn bound(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = socket(address)?;
    if let SocketAddr::V6(v6) = address {
        sockopt::set_ipv6_v6only(&socket, !v6.ip().is_unspecified())?;
    }
    if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    }
    // A burst to many clients at once.
    if sockopt::set_socket_send_buffer_size_force(&socket, BUFFER).is_err() {
        sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    }
    rustix::net::bind(&socket, &address)?;
    if address.ip().is_unspecified() {
        // Answers come from the address that was spoken to.
        batch::say_local(&socket, address.is_ipv6())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    }
    batch::join(&socket);
    Ok(socket)
}

fn socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))
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
        (Host::Named(name), named) => {
            let known = named.as_ref().and_then(|named| named.at_hand());
            let first = known.as_ref().and_then(|known| known.first().copied());
            let first =
                first.ok_or_else(|| Refusal::here(Verdict::UnknownHost, format!("{name} has no address yet")))?;
            (first, port).into()
        }
    };
    let made = socket(address).and_then(|socket| {
        batch::join(&socket);
        rustix::net::connect(&socket, &address).map(|()| socket)
    });
    made.map_err(|errno| Refusal::of_dial(&errno.into()))
}

//! UDP sockets: bound ones that many speak to, and connected ones.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::batch;

/// What is asked of the kernel for what waits to be read, bytes. It gives others less than root.
const BUFFER: usize = 4 << 20;

/// A socket bound to an address, with large buffers. One of an unspecified address says to which of this host's each datagram
/// came; of IPv6's, it is for IPv4, too.
///
/// # Errors
/// The kernel's.
pub fn bound(address: SocketAddr) -> Result<OwnedFd, Errno> {
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
    Ok(socket)
}

/// A socket of an address' family, bound to nothing.
///
/// # Errors
/// The kernel's.
pub fn socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))
}

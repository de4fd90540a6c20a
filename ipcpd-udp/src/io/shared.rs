//! Flows' sockets on the listen port, beside the listener's: one port for everything (`--sp-range listen`).
//!
//! The kernel gives a datagram to the socket that is connected to its sender, else to one that is connected to nobody:
//! the listener, and for the moment between its bind and its connect the newest flow's socket. What comes to that is
//! handed over as if the listener had received it. A program that picks the socket by its place in the group
//! (SO_ATTACH_REUSEPORT_CBPF) is no help: places change. docs/decisions/0012.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::sync::Arc;
use std::time::Instant;

use proto::v1::{Failure, FailureKind};
use rustix::io::Errno;
use rustix::net::sockopt;

use super::driver::Driver;
use super::socket::{self, Received};
use super::sockopt as own;
use crate::machine::{Filter, Key, OpenError, Output, Via};

/// Datagrams taken from the queue of a socket that was bound a moment ago; more do not fit into one of the usual size.
const MOST_STRAYS: usize = 4096;
/// Where a detached socket is connected to, at this host's own address: the discard port (RFC 863).
const DISCARD: u16 = 9;

impl Driver {
    pub(super) fn act_on_listen_port(&mut self, now: Instant, output: Output) {
        match output {
            Output::Reserve { key } => {
                let result = self.reserve_socket(key);
                self.shim.opened(now, key, result);
            }
            Output::Join { key, peer, filter } => self.join_port(now, key, peer, &filter),
            Output::CheckDropped { key, flow } => {
                let dropped = self.sockets.get(&key).and_then(|socket| own::overflown(socket.as_fd()).ok());
                let received = self.tools.hand.counters(flow).map_or(0, |counters| counters.sdus_received);
                self.shim.dropped(now, key, dropped.unwrap_or(0), received);
            }
            Output::Detach { key } => self.detach_socket(key),
            _ => unreachable!("`act` does everything else"),
        }
    }

    fn reserve_socket(&mut self, key: Key) -> Result<SocketAddr, OpenError> {
        let listen = self.shim.settings().listen;
        let socket = socket::reserve(listen)?;
        self.sockets.insert(key, Arc::new(socket));
        Ok(listen)
    }

    fn join_port(&mut self, now: Instant, key: Key, peer: SocketAddr, filter: &Filter) {
        let listen = self.shim.settings().listen;
        let Some(socket) = self.sockets.get(&key).cloned() else {
            return self.shim.connected(now, key, Err("its socket is closed".to_owned()));
        };
        let mut bound = socket::bind_beside(socket.as_fd(), listen, peer);
        if bound == Err(Errno::ADDRINUSE) {
            // A program took the option off its socket, which closes the port to all that come after.
            for other in self.sockets.values() {
                let _ = sockopt::set_socket_reuseport(other, true);
            }
            bound = socket::bind_beside(socket.as_fd(), listen, peer);
        }
        let result = bound.and_then(|()| socket::join(socket.as_fd(), peer, filter));
        // Nothing of the client's can be an SDU yet: it has not been answered.
        let strays = drain(socket.as_fd(), &mut self.buffer);
        // In a flood, and this process was not given the processor in between.
        match own::overflown(socket.as_fd()) {
            Ok(lost) if lost > 0 => self.shim.lost(key, lost),
            _ => {}
        }
        if let Err(errno) = result {
            tracing::warn!(%errno, %peer, "a flow's socket could not join the listen port");
        }
        self.shim.connected(now, key, result.map_err(|errno| errno.to_string()));
        for (bytes, from) in strays {
            self.shim.handle_datagram(now, Via::Listen, from, &bytes);
        }
    }

    fn detach_socket(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(&key) else { return };
        let nobody = SocketAddr::new(self.shim.settings().listen.ip(), DISCARD);
        if let Err(errno) = socket::move_to(socket.as_fd(), nobody) {
            tracing::debug!(%errno, "the socket of a flow that is over keeps its client's address until it is closed");
        }
    }
}

/// What came to it between its bind and its connect.
pub(super) fn drain(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Vec<(Vec<u8>, SocketAddr)> {
    let mut strays = Vec::new();
    while strays.len() < MOST_STRAYS
        && let Ok(Received::Datagram(length, from)) = socket::receive(fd, buffer)
    {
        strays.push((buffer[..length].to_vec(), from));
    }
    strays
}

/// What keeps a second ipcpd from sharing the port unnoticed, which SO_REUSEPORT would let it: a name in this network
/// namespace, gone with the process.
pub(super) fn guard(listen: SocketAddr) -> Result<OwnedFd, Failure> {
    let name = format!("flowring/udp/{listen}");
    let taken = UnixAddress::from_abstract_name(&name).and_then(|address| UnixDatagram::bind_addr(&address));
    taken.map(OwnedFd::from).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            let text = format!(
                "UDP port {} of {} is in use by another ipcpd-udp that has its flows on it; stop that or choose --port",
                listen.port(),
                listen.ip()
            );
            return Failure::new(FailureKind::AddressInUse, text);
        }
        Failure::new(FailureKind::Internal, format!("the socket @{name} cannot be made: {error}"))
    })
}

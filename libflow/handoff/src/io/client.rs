//! The program's end of a lease.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use proto::handoff::{ToDaemon, ToProgram};
use proto::shim::{Binding, Unwanted};
use proto::v1::{Denied, Gone, Grant, Hello, Moved, Welcome};
use proto::{FlowId, protocol_version};
use rustix::net::SocketAddrUnix;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::listener::new_socket;
use super::packet::{self, Packet};
use super::slots::SlotMap;
use super::watch::{watch_shared, watch_writable};
use crate::client::{OpenError, Said};

/// Says things on a lease, from any thread.
#[derive(Clone)]
pub struct Sender {
    socket: Arc<OwnedFd>,
}

/// Hears what the daemon says on a lease.
pub struct Receiver {
    socket: AsyncFd<Arc<OwnedFd>>,
    slots: Arc<SlotMap>,
}

/// Opens a lease with the daemon that listens on `path`. Has no deadline of its own.
pub async fn open(path: &Path) -> Result<(Sender, Receiver), OpenError> {
    let unreachable = |errno: rustix::io::Errno| OpenError::Unreachable(errno.into());
    let address = SocketAddrUnix::new(path).map_err(unreachable)?;
    let socket = Arc::new(new_socket().map_err(OpenError::Unreachable)?);
    // A Unix socket answers at once; EAGAIN says that the daemon's backlog is full.
    rustix::net::connect(&*socket, &address).map_err(unreachable)?;
    let sender = Sender { socket: socket.clone() };
    let hello = ToDaemon::Hello(Hello { version: protocol_version() });
    match sender.say(&hello, None) {
        // The daemon has closed it already: it said why before.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        said => said.map_err(OpenError::Unreachable)?,
    }
    let watched = watch_shared(socket).map_err(OpenError::Unreachable)?;
    let packet = match receive(&watched).await {
        // The same, with our Hello unread: the kernel tells of that first, and gives what was said at the next try.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive(&watched).await,
        first => first,
    };
    let packet = packet.map_err(OpenError::Unreachable)?;
    let packet = packet.ok_or(OpenError::Protocol("it hung up"))?;
    match ToProgram::decode(&packet.bytes) {
        Ok(ToProgram::Welcome(Welcome { version, slots })) if version == protocol_version() => {
            let memory = packet.descriptor.ok_or(OpenError::Protocol("no statistics memory came with its Welcome"))?;
            let slots = SlotMap::map(&memory, slots).map_err(|_| OpenError::Protocol("its memory is not sealed"))?;
            Ok((sender, Receiver { socket: watched, slots: Arc::new(slots) }))
        }
        Ok(ToProgram::Denied(Denied { failure, .. })) => Err(OpenError::Denied(failure.unwrap_or_default())),
        _ => Err(OpenError::Protocol("its first packet is no Welcome")),
    }
}

impl Sender {
    /// Sends without waiting; `WouldBlock` while the daemon does not read.
    pub fn say(&self, what: &ToDaemon, beside: Option<BorrowedFd<'_>>) -> io::Result<()> {
        Ok(packet::send(self.socket.as_fd(), &what.encode(), beside)?)
    }
}

impl Receiver {
    /// The next thing said; `Err` when the lease is over. Keeps its place when the future is dropped.
    pub async fn next(&self) -> io::Result<Said> {
        loop {
            let Some(packet) = receive(&self.socket).await? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            if let Some(said) = self.said(packet)? {
                return Ok(said);
            }
        }
    }

    /// Waits until the daemon has room for another packet.
    pub async fn writable(&self) -> io::Result<()> {
        let twin = watch_writable(self.socket.get_ref().try_clone()?)?;
        twin.writable().await?.retain_ready();
        Ok(())
    }

    fn said(&self, packet: Packet) -> io::Result<Option<Said>> {
        let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        Ok(Some(match ToProgram::decode(&packet.bytes).map_err(|_| bad("a packet was malformed"))? {
            ToProgram::Welcome(_) => return Err(bad("the daemon said Welcome twice")),
            ToProgram::Grant(grant) => {
                let Grant { token: asked, flow_id, slot, sdu_limit, ticket, wire_id, answers_at, .. } = grant;
                let Grant { binding, fixed, movable, .. } = grant;
                let slot = SlotMap::slot(&self.slots, slot).ok_or_else(|| bad("a slot is beyond the memory"))?;
                let flow = FlowId(flow_id);
                // Cut off when this process is out of descriptors; whoever asked finds no socket.
                let socket = packet.descriptor;
                let unwanted = Unwanted::from_parts(wire_id, answers_at);
                let binding = Binding::from_bytes(&binding);
                Said::Granted { asked, flow, slot, sdu_limit, ticket, unwanted, binding, fixed, movable, socket }
            }
            ToProgram::Denied(Denied { token: asked, failure }) => {
                Said::Denied { asked, failure: failure.unwrap_or_default() }
            }
            ToProgram::Moved(Moved { flow_id, peer, ticket }) => {
                let peer = peer.parse().map_err(|_| bad("a flow moved to no address"))?;
                Said::Moved { flow: FlowId(flow_id), peer, ticket }
            }
            ToProgram::Gone(gone @ Gone { flow_id, .. }) => Said::Gone { flow: FlowId(flow_id), reason: gone.reason() },
        }))
    }
}

async fn receive(socket: &AsyncFd<Arc<OwnedFd>>) -> io::Result<Option<Packet>> {
    loop {
        match socket.async_io(Interest::READABLE, |s| Ok(packet::receive(s.as_fd())?)).await {
            // Told once, ahead of what the daemon sent before it ended with packets of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => return other,
        }
    }
}

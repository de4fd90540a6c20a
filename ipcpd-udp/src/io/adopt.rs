//! Flows that programs bring back after this process was restarted.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use handoff::server::{AdoptionId, Process};
use proto::v1::{Failure, FailureKind};
use rustix::net::{self, SocketType, ipproto, sockopt};

use super::driver::Driver;
use crate::machine::Owner;

impl Driver {
    pub(super) fn adopt(
        &mut self,
        now: Instant,
        adoption: AdoptionId,
        process: Process,
        ticket: &[u8],
        socket: OwnedFd,
    ) {
        let result = ends(&socket).and_then(|(local, peer)| {
            let Process { pid, uid, gid } = process;
            let owner = Owner { pid, uid, gid, command: command_of(pid).into() };
            self.shim.adopt(now, ticket, owner, local, peer)
        });
        match result {
            Ok(adopted) => {
                let socket = Arc::new(socket);
                self.sockets.insert(adopted.key, socket.clone());
                tracing::info!(flow = %adopted.flow, pid = process.pid, "flow taken back after a restart");
                let limit = adopted.sdu_limit;
                self.tools.hand.adopted(adoption, adopted.flow, socket, limit, ticket.to_vec());
            }
            Err(failure) => {
                tracing::warn!(pid = process.pid, "a flow was not taken back: {failure}");
                self.tools.hand.denied(adoption, failure);
            }
        }
    }
}

/// Both ends of what must be a connected UDP socket: a program may send any descriptor.
fn ends(socket: &OwnedFd) -> Result<(SocketAddr, SocketAddr), Failure> {
    let udp = sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM)
        && sockopt::socket_protocol(socket).is_ok_and(|protocol| protocol == Some(ipproto::UDP));
    let local = net::getsockname(socket).ok().and_then(|any| SocketAddr::try_from(any).ok());
    let peer = net::getpeername(socket).ok().flatten().and_then(|any| SocketAddr::try_from(any).ok());
    match (udp, local, peer) {
        (true, Some(local), Some(peer)) => Ok((local, peer)),
        _ => {
            let text = "what was handed back is no connected UDP socket; allocate the flow anew";
            Err(Failure::new(FailureKind::Invalid, text))
        }
    }
}

/// A process' command, for listings; empty where it cannot be read.
fn command_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

//! Flows that programs bring back after this process was restarted.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use handoff::server::{AdoptionId, Process};
use proto::FlowId;
use proto::v1::{Failure, FailureKind};
use rustix::net::{self, SocketType, ipproto, sockopt};

use super::driver::Driver;
use super::irm::News;
use super::sockopt as own;
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
        let ends = ends(&socket);
        let own = ends.as_ref().ok().map(|(local, _)| *local);
        let result = ends.and_then(|(local, peer)| {
            let Process { pid, uid, gid } = process;
            let command = self.commands.get(&pid).cloned().unwrap_or_default();
            self.shim.adopt(now, ticket, Owner { pid, uid, gid, command }, local, peer)
        });
        match result {
            Ok(adopted) => {
                self.is_on(own);
                let socket = Arc::new(socket);
                self.overflown_before += u64::from(own::overflown(socket.as_fd()).unwrap_or(0));
                self.sockets.insert(adopted.key, socket.clone());
                tracing::debug!(flow = adopted.flow.0, pid = process.pid, "flow taken back after a restart");
                let limit = adopted.sdu_limit;
                self.tools.hand.adopted(adoption, adopted.flow, socket, limit, ticket.to_vec());
                if let Some(row) = self.shim.row(now, adopted.flow) {
                    // Where too many wait for irmd's return: it asks for all there are then.
                    let _ = self.tools.news.try_send(News::Adopted(Box::new(self.info(row))));
                }
            }
            Err(failure) => {
                tracing::warn!(pid = process.pid, uid = process.uid, "a flow was not taken back: {failure}");
                self.tools.hand.denied(adoption, failure);
            }
        }
    }

    /// A program's lease began: its flows are listed under its command, which is read once and not for each.
    pub(super) fn lease_opened(&mut self, process: Process) {
        tracing::debug!(pid = process.pid, "lease opened");
        self.commands.insert(process.pid, command_of(process.pid).into());
    }

    pub(super) fn lease_closed(&mut self, now: Instant, process: Process, flows: Vec<FlowId>, last: bool) {
        tracing::debug!(pid = process.pid, flows = flows.len(), "lease closed");
        if last {
            self.commands.remove(&process.pid);
        }
        for flow in flows {
            self.shim.died(now, flow);
        }
    }
}

/// Both ends of what must be a UDP socket: a program may send any descriptor. The peer's is none where it is not connected.
fn ends(socket: &OwnedFd) -> Result<(SocketAddr, Option<SocketAddr>), Failure> {
    let udp = sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM)
        && sockopt::socket_protocol(socket).is_ok_and(|protocol| protocol == Some(ipproto::UDP));
    let local = net::getsockname(socket).ok().and_then(|any| SocketAddr::try_from(any).ok());
    let peer = net::getpeername(socket).ok().flatten().and_then(|any| SocketAddr::try_from(any).ok());
    match (udp, local) {
        (true, Some(local)) => Ok((local, peer)),
        _ => {
            let text = "what was handed back is no UDP socket; allocate the flow anew";
            Err(Failure::new(FailureKind::Invalid, text))
        }
    }
}

/// A process' command, for listings; empty where it cannot be read.
fn command_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

//! Programs that speak the hand-over protocol, and their ends of flows.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

use handoff::client::{Receiver, Said, Sender};
use proto::Token;
use proto::handoff::ToDaemon;
use proto::shim::Binding;
use proto::v1::{self, EndReason, Failure};

use crate::stage::{Host, SOON, soon};

/// This process, as irmd would name it.
pub(crate) fn process() -> v1::Process {
    v1::Process {
        pid: std::process::id(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        command: "test".into(),
    }
}

impl Host {
    pub(crate) async fn program(&self) -> Program {
        let path = self.run_dir.ipcp_handoff("udp0");
        let (sender, receiver) = soon("a lease", handoff::client::open(&path)).await.unwrap();
        Program { sender, receiver }
    }
}

/// A program with a lease.
pub(crate) struct Program {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

/// Its end of a flow.
pub(crate) struct End {
    pub(crate) flow: u64,
    pub(crate) socket: UdpSocket,
    pub(crate) ticket: Vec<u8>,
    pub(crate) sdu_limit: u32,
    pub(crate) bound: Bound,
}

/// What a handshake on it needs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Bound {
    pub(crate) binding: Option<Binding>,
    pub(crate) fixed: bool,
}

impl Program {
    pub(crate) fn say(&self, what: ToDaemon) {
        self.sender.say(&what, None).unwrap();
    }

    pub(crate) async fn redeem(&self, token: &[u8]) -> Result<End, Failure> {
        assert!(Token::from_bytes(token).is_some());
        self.say(ToDaemon::Redeem(v1::Redeem { token: token.to_vec() }));
        self.granted(token).await
    }

    pub(crate) async fn granted(&self, token: &[u8]) -> Result<End, Failure> {
        match soon("the socket", self.receiver.next()).await.unwrap() {
            Said::Granted { asked, flow, sdu_limit, ticket, unwanted, binding, fixed, socket, .. } => {
                assert_eq!(asked, token);
                let socket = UdpSocket::from(socket.expect("a descriptor"));
                // As libflow does for who reads the bare descriptor.
                if let Some(unwanted) = unwanted {
                    handoff::filter::keep_out(socket.as_fd(), unwanted);
                }
                socket.set_read_timeout(Some(SOON)).unwrap();
                Ok(End { flow: flow.0, socket, ticket, sdu_limit, bound: Bound { binding, fixed } })
            }
            Said::Denied { failure, .. } => Err(failure),
            Said::Gone { .. } | Said::Moved { .. } => panic!("told of it before it came"),
        }
    }

    pub(crate) fn release(&self, end: End) {
        drop(end.socket);
        self.say(ToDaemon::Release(v1::Release { flow_id: end.flow }));
    }

    /// Shows a ticket to a restarted ipcpd.
    pub(crate) fn adopt(&self, end: &End) {
        let adopt = v1::Adopt { ticket: end.ticket.clone(), counters: None };
        let fd = OwnedFd::from(end.socket.try_clone().unwrap());
        self.sender.say(&ToDaemon::Adopt(adopt), Some(fd.as_fd())).unwrap();
    }

    pub(crate) async fn gone(&self) -> (u64, EndReason) {
        match soon("the end of the flow", self.receiver.next()).await.unwrap() {
            Said::Gone { flow, reason } => (flow.0, reason),
            other => panic!("{other:?}"),
        }
    }
}

/// A flow between two programs, allocated and taken on both sides.
pub(crate) async fn flow(client: &mut Host, server: &mut Host) -> ((Program, End), (Program, End)) {
    let (_, reply) = client.alloc("echo").await.unwrap();
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    let (a, b) = (client.program().await, server.program().await);
    let ours = a.redeem(&reply.token).await.unwrap();
    let theirs = b.redeem(&arrived.token).await.unwrap();
    ((a, ours), (b, theirs))
}

/// What a blocking program reads next. The ipcpd goes on in the meantime.
pub(crate) async fn read(socket: &UdpSocket) -> std::io::Result<Vec<u8>> {
    let socket = socket.try_clone().unwrap();
    let blocking = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; 65_536];
        let n = socket.recv(&mut buffer)?;
        buffer.truncate(n);
        Ok(buffer)
    });
    blocking.await.unwrap()
}

/// One SDU across.
pub(crate) fn carries(from: &UdpSocket, to: &UdpSocket, sdu: &[u8]) {
    from.send(sdu).unwrap();
    let mut buffer = vec![0; 65_536];
    let n = to.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], sdu);
}

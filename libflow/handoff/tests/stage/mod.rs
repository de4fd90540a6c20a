//! A server, programs that are well-behaved, and programs that are not.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use handoff::client::{self, Receiver, Said, Sender};
use handoff::server::{Config, Event, Offer, Owner, Process, Server};
use proto::handoff::{ToDaemon, ToProgram};
use proto::v1::{Hello, Redeem, Release};
use proto::{FlowId, PROTOCOL_VERSION, Token};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use tokio::sync::mpsc;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A server in a folder of its own.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) path: PathBuf,
    pub(crate) dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.flow");
        let mut config = Config::new(&path);
        change(&mut config);
        let (server, events) = Server::start(config).expect("a server");
        Self { server, events, path, dir }
    }

    /// The next event, within the deadline.
    pub(crate) async fn event(&mut self) -> Event {
        within(self.events.recv()).await.expect("the server runs")
    }

    /// A well-behaved program: the lease, whose opening has been told.
    pub(crate) async fn program(&mut self) -> (Sender, Receiver) {
        let lease = within(client::open(&self.path)).await.expect("a lease");
        assert!(matches!(self.event().await, Event::LeaseOpened(process) if process == me()));
        lease
    }

    /// Offers one end of a fresh pair of sockets; the other end is returned.
    pub(crate) fn offer(&self, flow: u64, token: Token, owner: Owner) -> OwnedFd {
        let (daemon, far) = pair();
        let socket = Arc::new(daemon);
        self.server.offer(Offer {
            token,
            flow: FlowId(flow),
            owner,
            socket,
            sdu_limit: 1472,
            ticket: vec![7; 40],
            unwanted: None,
            binding: None,
            fixed: false,
            movable: false,
        });
        far
    }

    /// A program that speaks by hand.
    pub(crate) fn raw_program(&self) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("socket");
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.path).expect("path")).expect("connect");
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(DEADLINE))
            .expect("timeout");
        socket
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("nothing happened within the deadline")
}

pub(crate) fn me() -> Process {
    Process {
        pid: std::process::id(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

pub(crate) fn my() -> Owner {
    Owner { uid: me().uid, pid: me().pid }
}

pub(crate) fn token(n: u8) -> Token {
    Token([n; 16])
}

pub(crate) fn redeem(n: u8) -> ToDaemon {
    ToDaemon::Redeem(Redeem { token: token(n).0.to_vec() })
}

pub(crate) fn release(flow: u64) -> ToDaemon {
    ToDaemon::Release(Release { flow_id: flow })
}

pub(crate) fn hello() -> ToDaemon {
    ToDaemon::Hello(Hello { version: PROTOCOL_VERSION })
}

pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair")
}

/// Redeems a token; what the daemon said.
pub(crate) async fn take(lease: &(Sender, Receiver), n: u8) -> Said {
    lease.0.say(&redeem(n), None).expect("room");
    within(lease.1.next()).await.expect("the lease stands")
}

pub(crate) fn say_raw(socket: &OwnedFd, what: &ToDaemon) {
    rustix::net::send(socket, &what.encode(), SendFlags::NOSIGNAL).expect("sent");
}

/// The next packet, off the runtime's thread; `None` at the end of the lease.
pub(crate) async fn hear_raw(socket: &Arc<OwnedFd>) -> Option<ToProgram> {
    let socket = socket.clone();
    let heard = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; proto::handoff::MAX_PACKET];
        match rustix::net::recv(socket.as_fd(), &mut buffer, RecvFlags::empty()) {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => None,
            Ok((n, _)) => Some(ToProgram::decode(&buffer[..n]).expect("a packet")),
            Err(error) => panic!("nothing heard: {error}"),
        }
    });
    within(heard).await.expect("no panic")
}

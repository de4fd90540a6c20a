//! A flow's socket, as the transports see it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The socket under a flow, and who is told what happens on it.
///
/// The calls are made for every batch of datagrams: none of them may wait.
pub trait Path: Send + Sync + 'static {
    /// The socket. It has other holders and stays in blocking mode: every call on it carries `MSG_DONTWAIT`.
    fn socket(&self) -> Arc<OwnedFd>;

    /// Whether `datagram` is the transport's; what the daemons say to each other on the same socket is not.
    fn wanted(&self, datagram: &[u8]) -> bool {
        let _ = datagram;
        true
    }

    /// Where datagrams go, of a flow that may move: there, and no longer to where the socket is connected, once the peer has
    /// shown itself. Asked for each send; `None`, as ever: the flow does not move, and its accepting side follows the client by
    /// itself.
    fn goes_to(&self) -> Option<SocketAddr> {
        None
    }

    /// A datagram that is not [`wanted`](Self::wanted) came from there.
    fn stray(&self, from: SocketAddr, datagram: &[u8]) {
        let _ = (from, datagram);
    }

    /// So much has been sent: datagrams (messages within a host), and their bytes.
    fn sent(&self, count: u64, bytes: u64) {
        let _ = (count, bytes);
    }

    /// So much has come, unwanted ones not counted.
    fn received(&self, count: u64, bytes: u64) {
        let _ = (count, bytes);
    }

    /// The kernel did not take what was to be sent; it is lost.
    fn send_failed(&self) {}

    /// The kernel reported the peer unreachable: the daemon is to find out whether that is so.
    fn suspect(&self) {}

    /// The socket was found shut down.
    fn closed(&self) {}
}

/// A socket nobody else is told about.
impl Path for Arc<OwnedFd> {
    fn socket(&self) -> Arc<OwnedFd> {
        self.clone()
    }
}

//! A flow's socket, as the transports see it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::core::Core;

/// The socket of a flow.
pub(super) struct Path(pub(super) Arc<Core>);

impl transport::Path for Path {
    fn socket(&self) -> Arc<OwnedFd> {
        self.0.fd.clone()
    }

    fn wanted(&self, datagram: &[u8]) -> bool {
        !self.0.unwanted.is(datagram)
    }

    fn sent(&self, count: u64, bytes: u64) {
        self.0.slot().sent(count, bytes);
    }

    fn received(&self, count: u64, bytes: u64) {
        self.0.slot().received(count, bytes);
    }

    fn send_failed(&self) {
        self.0.slot().send_failed();
    }

    fn suspect(&self) {
        self.0.suspect();
    }

    fn closed(&self) {
        // The daemon is asked why.
        let _ = self.0.note_closed();
    }
}

//! A flow's socket, as the transports see it; and what QUIC sees of its path, for the statistics memory.
#![expect(clippy::disallowed_methods, reason = "io owns the timers")]

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::v1::PathInfo;
use tokio::sync::Notify;
use transport::quic::Watch;

use super::core::Core;

/// How long after something moved the path's figures are written: so they are at most five times a second, and an idle
/// flow's never.
const WRITTEN_AFTER: Duration = Duration::from_millis(200);

/// The socket of a flow.
pub(super) struct Path {
    core: Arc<Core>,
    moving: Arc<Moving>,
}

/// Something moved since the figures were written.
#[derive(Default)]
pub(super) struct Moving {
    noted: AtomicBool,
    over: AtomicBool,
    notify: Notify,
}

impl Moving {
    fn note(&self) {
        if !self.noted.load(Ordering::Relaxed) && !self.noted.swap(true, Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }
}

impl Path {
    pub(super) fn new(core: Arc<Core>) -> (Self, Arc<Moving>) {
        let moving = Arc::new(Moving::default());
        (Self { core, moving: moving.clone() }, moving)
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.moving.over.store(true, Ordering::Relaxed);
        self.moving.notify.notify_one();
    }
}

/// Writes what QUIC sees into the flow's slot, as long as the flow lives.
pub(super) async fn publish(core: std::sync::Weak<Core>, moving: Arc<Moving>, watch: Watch) {
    loop {
        moving.notify.notified().await;
        if moving.over.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(WRITTEN_AFTER).await;
        moving.noted.store(false, Ordering::Relaxed);
        let (Some(core), Some(seen)) = (core.upgrade(), watch.stats()) else { return };
        core.slot().write_path(&PathInfo {
            rtt_us: u64::try_from(seen.rtt.as_micros()).unwrap_or(u64::MAX),
            congestion_window: seen.congestion_window,
            sent_packets: seen.datagrams_sent,
            lost_packets: seen.packets_lost,
            sent_bytes: seen.bytes_sent,
            received_bytes: seen.bytes_received,
            mtu: seen.mtu.into(),
            ms_ago: 0,
        });
    }
}

impl transport::Path for Path {
    fn socket(&self) -> Arc<OwnedFd> {
        self.core.fd.clone()
    }

    fn wanted(&self, datagram: &[u8]) -> bool {
        !self.core.unwanted.is(datagram) && !self.core.is_daemons(datagram)
    }

    fn goes_to(&self) -> Option<SocketAddr> {
        self.core.goes_to()
    }

    fn stray(&self, from: SocketAddr, datagram: &[u8]) {
        self.core.hand_over(from, datagram);
    }

    fn sent(&self, count: u64, bytes: u64) {
        self.core.slot().sent(count, bytes);
        self.moving.note();
    }

    fn received(&self, count: u64, bytes: u64) {
        self.core.slot().received(count, bytes);
        self.moving.note();
    }

    fn send_failed(&self) {
        self.core.slot().send_failed();
    }

    fn suspect(&self) {
        self.core.suspect();
    }

    fn closed(&self) {
        // The daemon is asked why.
        let _ = self.core.note_closed();
    }
}

//! Message and stream flows that start at a relay and may move to another path: where they go, and what comes to their socket that
//! is the daemon's. The daemon cannot read there itself: it would take what is the program's.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use proto::rendezvous::{DATAGRAM, is_ours};
use proto::v1;

use super::core::{Core, Note};

/// Datagrams handed to the daemon in each such time, at most: one attempt at a path takes some dozens.
const WINDOW: Duration = Duration::from_secs(1);
const IN_WINDOW: u32 = 128;

/// Where a flow goes that may move.
pub(super) struct Moving {
    peer: ArcSwap<SocketAddr>,
    handed: Mutex<Handed>,
}

/// How much was handed to the daemon, since when.
struct Handed {
    since: Instant,
    count: u32,
}

impl Moving {
    /// Of a socket that is connected to where the flow starts.
    pub(super) fn of(socket: &OwnedFd) -> Option<Self> {
        let peer = rustix::net::getpeername(socket.as_fd()).ok().flatten()?;
        let peer = ArcSwap::from_pointee(SocketAddr::try_from(peer).ok()?);
        Some(Self { peer, handed: Mutex::new(Handed { since: Instant::now(), count: 0 }) })
    }

    /// Where it goes now.
    pub(super) fn peer(&self) -> SocketAddr {
        **self.peer.load()
    }

    fn may_hand(&self, now: Instant) -> bool {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(handed.since) >= WINDOW {
            *handed = Handed { since: now, count: 0 };
        }
        handed.count += 1;
        handed.count <= IN_WINDOW
    }
}

impl Core {
    /// Where a flow goes that may move.
    pub(crate) fn goes_to(&self) -> Option<SocketAddr> {
        self.moving.as_ref().map(Moving::peer)
    }

    /// The daemon found another path.
    pub(super) fn moved(&self, peer: SocketAddr) {
        if let Some(moving) = &self.moving {
            moving.peer.store(Arc::new(peer));
            if let Some(carried) = self.carried.get() {
                carried.path_changed();
            }
        }
    }

    /// Whether a datagram is the daemon's to see, if the flow may move.
    pub(super) fn is_daemons(&self, datagram: &[u8]) -> bool {
        self.moving.is_some() && datagram.len() <= DATAGRAM && is_ours(datagram)
    }

    /// Hands what came to the daemon, unless it was handed much already.
    pub(super) fn hand_over(&self, from: SocketAddr, datagram: &[u8]) {
        let (Some(moving), Some(link)) = (&self.moving, &self.link) else { return };
        if self.is_daemons(datagram) && moving.may_hand(Instant::now()) {
            let (flow_id, from) = (self.id().0, from.to_string());
            link.outside.leave(Note::Heard(v1::Heard { flow_id, from, datagram: datagram.to_vec() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_handed_over_in_part() {
        let (a, b) =
            (std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        a.connect(b.local_addr().unwrap()).unwrap();
        let moving = Moving::of(&a.into()).unwrap();
        assert_eq!(moving.peer(), b.local_addr().unwrap());
        let now = Instant::now();
        let handed = |now| (0..1000).filter(|_| moving.may_hand(now)).count();
        assert_eq!(handed(now), IN_WINDOW as usize);
        assert_eq!(handed(now + WINDOW), IN_WINDOW as usize);
        assert!(Moving::of(&std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()).is_none());
    }
}

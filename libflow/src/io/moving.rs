//! Message and stream flows that start at a relay and may move to another path: where they go, and what comes to their socket that
//! is the daemon's. The daemon cannot read there itself: it would take what is the program's.
#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use proto::rendezvous::{DATAGRAM, is_ours};
use proto::v1;

use super::core::{Core, Note};

/// Datagrams handed to the daemon in each such time, at most: one attempt at a path takes some dozens. Junk takes nobody's share but
/// its own source's: so many from where the flow goes (the server that introduces is there, too), so many from each of some other
/// hosts, and so many from all the rest.
const WINDOW: Duration = Duration::from_secs(1);
const OF_KNOWN: u32 = 64;
const OF_EACH: u32 = 24;
const EACH: usize = 8;
const OF_OTHERS: u32 = 64;

/// Where a flow goes that may move.
pub(super) struct Moving {
    peer: ArcSwap<SocketAddr>,
    handed: Mutex<Handed>,
}

/// How much was handed to the daemon, since when.
struct Handed {
    since: Instant,
    known: u32,
    each: Vec<(IpAddr, u32)>,
    others: u32,
}

impl Handed {
    fn nothing(since: Instant) -> Self {
        Self { since, known: 0, each: Vec::new(), others: 0 }
    }

    /// Whether one more from there may go.
    fn take(&mut self, from: IpAddr, known: bool) -> bool {
        let (count, most) = match self.each.iter().position(|(ip, _)| *ip == from) {
            _ if known => (&mut self.known, OF_KNOWN),
            Some(at) => (&mut self.each[at].1, OF_EACH),
            None if self.each.len() < EACH => {
                self.each.push((from, 1));
                return true;
            }
            None => (&mut self.others, OF_OTHERS),
        };
        *count += 1;
        *count <= most
    }
}

impl Moving {
    /// Of a socket that is connected to where the flow starts.
    pub(super) fn of(socket: &OwnedFd) -> Option<Self> {
        let peer = rustix::net::getpeername(socket.as_fd()).ok().flatten()?;
        let peer = ArcSwap::from_pointee(SocketAddr::try_from(peer).ok()?);
        Some(Self { peer, handed: Mutex::new(Handed::nothing(Instant::now())) })
    }

    /// Where it goes now.
    pub(super) fn peer(&self) -> SocketAddr {
        **self.peer.load()
    }

    fn may_hand(&self, now: Instant, from: IpAddr) -> bool {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(handed.since) >= WINDOW {
            *handed = Handed::nothing(now);
        }
        handed.take(from, from == self.peer().ip())
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
        if self.is_daemons(datagram) && moving.may_hand(Instant::now(), from.ip()) {
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
        let ip = |last: u8| IpAddr::from([192, 0, 2, last]);
        let handed = |now, from: IpAddr| (0..1000).filter(|_| moving.may_hand(now, from)).count();
        for now in [now, now + WINDOW] {
            // Whoever floods uses up its own share.
            assert_eq!(handed(now, ip(1)), OF_EACH as usize);
            assert_eq!(handed(now, moving.peer().ip()), OF_KNOWN as usize);
            assert_eq!(handed(now, ip(2)), OF_EACH as usize);
        }
        // And of sources there are as many as a flood wants.
        let handed = (3..=u8::MAX).map(|last| handed(now + WINDOW, ip(last))).sum::<usize>();
        assert_eq!(handed, (EACH - 2) * OF_EACH as usize + OF_OTHERS as usize);
        assert!(Moving::of(&std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()).is_none());
    }
}

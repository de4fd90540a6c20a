//! Flows between two ipcpds on loopback addresses, with a played irmd on each side: sockets, gRPC and hand-over are real.

mod classic;
mod failure;
mod hostile;
mod life;
mod middlebox;
mod nat;
mod program;
mod protected;
mod shared;
mod stage;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use stage::SOON;

/// Without a deadline having passed: an allocation of these tests has ten seconds.
pub(crate) fn at_once(start: Instant) {
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[expect(clippy::disallowed_methods, reason = "tests measure")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a scripted peer is a plain socket")]
pub(crate) fn plain(ip: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((ip, port)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

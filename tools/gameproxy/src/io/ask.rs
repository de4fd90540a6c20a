//! Game servers are asked whether they live.
#![expect(clippy::disallowed_methods, reason = "io/: the clock, sockets; blocking, in threads of their own")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::said::query;
use crate::said::rule::Query;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Asks a server; how long its answer took. Blocks for up to [`PATIENCE`].
pub(super) fn ask(server: SocketAddr, query: Query) -> Option<Duration> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(server).ok()?;
    let began = Instant::now();
    socket.send(query::question(query)).ok()?;
    let mut answer = [0; 2048];
    loop {
        let left = PATIENCE.checked_sub(began.elapsed()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        let length = socket.recv(&mut answer).ok()?;
        if query::is_answer(query, &answer[..length]) {
            return Some(began.elapsed());
        }
    }
}

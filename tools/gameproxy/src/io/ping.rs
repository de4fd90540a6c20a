//! `gameproxy ping`: how far away a client side is, as its players see it.
#![expect(clippy::disallowed_methods, reason = "io/: the clock, a socket")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use service::print;

use crate::said::probe;

/// The last answer may take so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends probes and prints what came back.
pub(super) fn ping(at: &str, count: u32, interval: Duration) -> anyhow::Result<()> {
    let mut found = at.to_socket_addrs().with_context(|| format!("'{at}' is no HOST:PORT that is found"))?;
    let to = found.next().ok_or_else(|| anyhow!("'{at}' has no address"))?;
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let mut took = Vec::new();
    for number in 0..u64::from(count) {
        let sent = Instant::now();
        // What was wrong with the one before; this one has not gone.
        if socket.send(&probe::ping(number)).is_err() {
            let _ = socket.send(&probe::ping(number));
        }
        let last = number + 1 == u64::from(count);
        let until = sent + if last { PATIENCE.max(interval) } else { interval };
        match answer(&socket, number, until) {
            Some((at, leg)) => {
                let to_proxy = at - sent;
                took.push(to_proxy);
                let leg = leg.map_or_else(String::new, |leg| {
                    format!(", and {:.2} ms from there to the server side", f64::from(leg) / 1_000.0)
                });
                print::text(&format!("{to}: {:.2} ms{leg}\n", to_proxy.as_secs_f64() * 1_000.0))?;
            }
            None => print::text(&format!("{to}: no answer\n"))?,
        }
        if !last {
            // Strangers' datagrams are read meanwhile, too.
            answer(&socket, u64::MAX, until);
        }
    }
    took.sort_unstable();
    let (Some(least), Some(most)) = (took.first(), took.last()) else {
        bail!("{to} answered none of {count}; does its access list let you in?");
    };
    let ms = |time: &Duration| time.as_secs_f64() * 1_000.0;
    let median = &took[took.len() / 2];
    let line = format!("{} of {count} answered; {:.2}/{:.2}/{:.2} ms", took.len(), ms(least), ms(median), ms(most));
    print::text(&format!("{line} (least, median, most)\n"))
}

/// Waits for the answer to a probe.
fn answer(socket: &UdpSocket, number: u64, until: Instant) -> Option<(Instant, Option<u32>)> {
    let mut datagram = [0; 2 * probe::LENGTH];
    loop {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        // An error: its port is closed, for now, or time is up.
        let Ok(length) = socket.recv(&mut datagram) else { continue };
        let at = Instant::now();
        if let Some((answered, leg)) = probe::answered(&datagram[..length])
            && answered == number
        {
            return Some((at, leg));
        }
    }
}

//! Which address of this host the rendezvous is reached from, as that changes: another network, another lease.
#![expect(clippy::disallowed_methods, reason = "io asks the kernel for routes, and reads the clock")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep_until, timeout};

use super::driver::Driver;
use super::socket;
use crate::config::Bootstrap;

/// Groups of rtnetlink(7): addresses and routes of both IP versions.
const GROUPS: u32 = 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10;
/// An address that goes and one that comes are two changes: looked at together.
const SETTLE: Duration = Duration::from_millis(200);
/// Without a word of the kernel it is looked at so often, too: where it could not be asked, or its words did not fit.
const SELDOM: Duration = Duration::from_secs(15);
/// What a name server gets for the rendezvous' address before the listen port is opened.
const PATIENCE: Duration = Duration::from_secs(3);

/// Addresses of before that may still be this host's, and flows' on them: the newest.
const MOST_LEFT: usize = 16;

/// The kernel's words about this host's addresses.
pub(super) struct Network {
    changes: Option<AsyncFd<OwnedFd>>,
    look: Instant,
    /// Where the layer was before.
    left: Vec<IpAddr>,
    /// Where it was to be, and could not.
    refused: Option<SocketAddr>,
}

impl Network {
    pub(super) fn watch() -> Self {
        let opened = open().and_then(handoff::watch_readable);
        let changes = opened.inspect_err(|error| tracing::warn!(%error, "changes of the network are seen late")).ok();
        Self { changes, look: Instant::now() + SELDOM, left: Vec::new(), refused: None }
    }

    /// Flows may be left at an address.
    fn leaves(&mut self, before: IpAddr, now: IpAddr) {
        self.left.retain(|ip| *ip != before && *ip != now);
        self.left.push(before);
        if self.left.len() > MOST_LEFT {
            self.left.remove(0);
        }
    }

    /// Until it is time to look. What is dropped before that is not lost.
    async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = sleep_until(self.look.into()) => {
                    self.look = Instant::now() + SELDOM;
                    return;
                }
                () = word(&self.changes) => self.look = self.look.min(Instant::now() + SETTLE),
            }
        }
    }
}

/// Until a layer that follows is to look; never for one that does not.
pub(super) async fn changed(network: &mut Option<Network>) {
    match network {
        Some(network) => network.changed().await,
        None => std::future::pending().await,
    }
}

/// Whatever it says: there was a change.
async fn word(changes: &Option<AsyncFd<OwnedFd>>) {
    let Some(changes) = changes else { return std::future::pending().await };
    let Ok(mut ready) = changes.readable().await else { return std::future::pending().await };
    let mut buffer = [0; 4096];
    loop {
        match rustix::net::recv(changes.get_ref(), &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(rustix::io::Errno::AGAIN) => break,
            // Also where there was more than the socket holds.
            Ok(_) | Err(_) => {}
        }
    }
    ready.clear_ready();
}

fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Of its protocols the first, 0: NETLINK_ROUTE.
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(fd)
}

/// The address that this host sends there from; none without a way there. Nothing is sent.
fn towards(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then_some(own)
}

/// Whether it is none of this host's. That no descriptor is left does not say so.
fn is_gone(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// The address that this host sends most from, or without any network its loopback; of the same IP version.
fn own_address(like: IpAddr) -> IpAddr {
    // Addresses for documentation (RFC 5737, 3849): nobody has them, and nothing is sent there.
    let far: SocketAddr =
        if like.is_ipv4() { ([192, 0, 2, 1], 9).into() } else { ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into() };
    let loopback = if like.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
    towards(far).unwrap_or(loopback)
}

/// Puts the address that this host has now into what an IPCP is bootstrapped with, where it follows that. Where the rendezvous is not
/// found and the address of before is gone, any of this host's will do until it is.
pub(super) async fn settle(bootstrap: &mut Bootstrap) {
    let Some(via) = bootstrap.via.as_ref().filter(|via| via.follow) else { return };
    let before = bootstrap.listen.ip();
    let found = timeout(PATIENCE, tokio::net::lookup_host(&via.server)).await;
    let server = found.ok().and_then(Result::ok).and_then(|mut all| all.find(|at| at.is_ipv4() == before.is_ipv4()));
    let own = server.and_then(towards).or_else(|| is_gone(before).then(|| own_address(before)));
    if let Some(own) = own.filter(|own| *own != before) {
        let rendezvous = if server.is_some() { "reached from there" } else { "not found yet" };
        tracing::info!(%before, now = %own, rendezvous, "this host has another address");
        bootstrap.listen.set_ip(own);
    }
}

impl Driver {
    /// The host's addresses or routes may be others: the layer goes to the one that reaches the rendezvous now.
    pub(super) fn look_at_network(&mut self, now: Instant) {
        let before = self.shim.settings().listen;
        let own =
            self.shim.rendezvous_at().map_or_else(|| is_gone(before.ip()).then(|| own_address(before.ip())), towards);
        if let Some(own) = own.filter(|own| *own != before.ip()) {
            self.go_to(now, before, SocketAddr::new(own, before.port()));
        }
        let Some(network) = &mut self.network else { return };
        let gone = network.left.extract_if(.., |ip| is_gone(*ip));
        for ip in gone.collect::<Vec<_>>() {
            self.shim.lost_address(now, ip);
        }
    }

    /// A flow that was taken back may be on an address that the layer has left.
    pub(super) fn is_on(&mut self, local: Option<SocketAddr>) {
        let listen = self.shim.settings().listen.ip();
        if let (Some(network), Some(local)) = (&mut self.network, local)
            && local.ip() != listen
            && !local.ip().is_unspecified()
            && !network.left.contains(&local.ip())
        {
            network.leaves(local.ip(), listen);
        }
    }

    fn go_to(&mut self, now: Instant, before: SocketAddr, at: SocketAddr) {
        let opened = socket::listen(at, false).map_err(|failure| failure.message);
        let watched = opened.and_then(|it| handoff::watch_readable(it.socket).map_err(|error| error.to_string()));
        match watched {
            Ok(listen) => {
                tracing::info!(%before, now = %at, "this host has another address: the layer is there now");
                self.listen = listen;
                if let Some(network) = &mut self.network {
                    network.leaves(before.ip(), at.ip());
                    network.refused = None;
                }
                self.shim.moved(now, at);
            }
            Err(why) => {
                let Some(network) = &mut self.network else { return };
                network.leaves(before.ip(), at.ip());
                if network.refused.replace(at) != Some(at) {
                    tracing::warn!(%at, why, "this host has another address, and the layer stays where it was; free that port");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    /// A layer at `ip` whose rendezvous is of the other IP version, which is as good as not found.
    async fn settled(ip: &str, rendezvous: &str) -> SocketAddr {
        let said = v1::UdpConfig {
            ip: ip.into(),
            rendezvous: rendezvous.into(),
            session: "darkreign".into(),
            session_key_file: "/k".into(),
            follow: true,
            ..Default::default()
        };
        let mut bootstrap = Bootstrap::new("lobby", said).unwrap();
        settle(&mut bootstrap).await;
        bootstrap.listen
    }

    #[tokio::test]
    async fn an_address_that_is_gone_is_no_reason_not_to_start() {
        // Of TEST-NET-3 (RFC 5737): no host has it.
        let at = settled("203.0.113.77", "[::1]:3360").await;
        assert!(at.is_ipv4() && !is_gone(at.ip()), "{at}");
        assert_eq!(at.port(), 3359);
    }

    #[tokio::test]
    async fn an_address_that_is_still_there_stays_where_the_rendezvous_is_not_found() {
        assert_eq!(settled("127.0.0.2", "[::1]:3360").await.ip(), IpAddr::from([127, 0, 0, 2]));
        assert_eq!(settled("127.0.0.2", "127.0.0.1:3360").await.ip(), IpAddr::from([127, 0, 0, 1]), "it is found");
    }
}

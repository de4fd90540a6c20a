//! Which address of this host the rendezvous is reached from, as that changes: another network, another lease.
#![expect(clippy::disallowed_methods, reason = "io asks the kernel for routes, and reads the clock")]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
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

/// Puts the address that this host has now into what an IPCP is bootstrapped with, where it follows that.
pub(super) async fn settle(bootstrap: &mut Bootstrap) {
    let Some(via) = bootstrap.via.as_ref().filter(|via| via.follow) else { return };
    let found = timeout(PATIENCE, tokio::net::lookup_host(&via.server)).await;
    let Ok(Ok(mut found)) = found else { return };
    let own = found.find(|at| at.is_ipv4() == bootstrap.listen.is_ipv4()).and_then(towards);
    if let Some(own) = own.filter(|own| *own != bootstrap.listen.ip()) {
        tracing::info!(before = %bootstrap.listen.ip(), now = %own, "this host has another address");
        bootstrap.listen.set_ip(own);
    }
}

impl Driver {
    /// The host's addresses or routes may be others: the layer goes to the one that reaches the rendezvous now.
    pub(super) fn look_at_network(&mut self, now: Instant) {
        let before = self.shim.settings().listen;
        if let Some(own) = self.shim.rendezvous_at().and_then(towards).filter(|own| *own != before.ip()) {
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

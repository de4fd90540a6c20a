//! Listening sockets: opened once for a rule, accepted from by every worker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, ipproto, sockopt};

use super::dial::{keep_alive, unix_address, zoned};
use crate::said::end::{End, Host, Place};
use crate::said::rule::Rule;

/// A rule's listening sockets. The last share that is dropped closes them; a Unix socket's file goes with them.
#[derive(Debug)]
pub(crate) struct Listening {
    sockets: Vec<OwnedFd>,
    file: Option<PathBuf>,
    backlog: AtomicI32,
    tcp: bool,
}

/// No socket listens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("{end} is in use by another program ({who}); end that one, or listen elsewhere")]
    InUse { end: End, who: String },
    #[error("this user may not listen on {end}; ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE")]
    NotPermitted { end: End },
    #[error("{end} is no address of this host; see `ip address`")]
    NotHere { end: End },
    #[error("{0} has no address to listen on ({1})")]
    NoAddress(End, String),
    #[error("{path} is there already and no socket; remove it, or listen elsewhere", path = .0.display())]
    NoSocket(PathBuf),
    #[error("{end} cannot be listened on: {error}")]
    Other { end: End, error: io::Error },
}

impl Listening {
    /// Opens what the rule listens on, a TCP port or a Unix socket. `quiet`: bound, so that nobody else takes it, and not
    /// listening.
    pub(crate) fn open(rule: &Rule, quiet: bool) -> Result<Arc<Self>, ListenError> {
        let backlog = AtomicI32::new(backlog(rule));
        let mut it = Self { sockets: Vec::new(), file: None, backlog, tcp: true };
        match &rule.listen {
            End::Tcp(place) => it.sockets = tcp(rule, place)?,
            End::Unix(path) => {
                it.tcp = false;
                it.sockets = vec![unix(rule, path)?];
                it.file = path.is_absolute().then(|| path.clone());
            }
            End::Udp(_) | End::Flow(_) => {}
        }
        if !quiet {
            it.resume().map_err(|error| of(&rule.listen, error))?;
        }
        Ok(Arc::new(it))
    }

    /// Shares of the sockets, for a worker.
    pub(crate) fn shares(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets.iter().map(|socket| socket.try_clone()).collect()
    }

    /// It is of TCP.
    pub(crate) fn is_tcp(&self) -> bool {
        self.tcp
    }

    /// The rule has other options from now on, of which connections inherit some.
    pub(crate) fn tune(&self, rule: &Rule) {
        self.backlog.store(backlog(rule), Ordering::Relaxed);
        for socket in self.sockets.iter().filter(|_| self.tcp) {
            let tuned = match rule.options.keepalive {
                Some(after) => keep_alive(socket, after),
                None => sockopt::set_socket_keepalive(socket, false).map_err(io::Error::from),
            };
            if let Err(error) = tuned {
                tracing::warn!(rule = %rule.name, %error, "keepalive stays as it was");
            }
        }
    }

    /// The kernel refuses connections from now on, and resets those that wait; the port stays taken.
    pub(crate) fn pause(&self) {
        for socket in &self.sockets {
            // Only one that listens forgets that it was shut down: of another the connections would inherit it.
            if sockopt::socket_acceptconn(socket).unwrap_or(false) {
                let _ = rustix::net::shutdown(socket, Shutdown::Read);
            }
        }
    }

    /// And takes them again.
    pub(crate) fn resume(&self) -> Result<(), Errno> {
        self.sockets.iter().try_for_each(|socket| rustix::net::listen(socket, self.backlog.load(Ordering::Relaxed)))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // It may be gone.
            let _ = std::fs::remove_file(file);
        }
    }
}

fn backlog(rule: &Rule) -> i32 {
    i32::try_from(rule.options.backlog.get()).unwrap_or(i32::MAX)
}

/// Why a socket for datagrams is not there.
pub(crate) fn of_udp(end: &End, error: &io::Error) -> ListenError {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => ListenError::InUse { who: "see `ss -lunp`".to_owned(), end: end.clone() },
        Some(errno) => of(end, errno),
        None => ListenError::NoAddress(end.clone(), error.to_string()),
    }
}

fn of(end: &End, errno: Errno) -> ListenError {
    let end = end.clone();
    match errno {
        Errno::ADDRINUSE => ListenError::InUse { who: "see `ss -ltnp`".to_owned(), end },
        Errno::ACCESS | Errno::PERM => ListenError::NotPermitted { end },
        Errno::ADDRNOTAVAIL | Errno::NODEV => ListenError::NotHere { end },
        errno => ListenError::Other { end, error: errno.into() },
    }
}

fn tcp(rule: &Rule, place: &Place) -> Result<Vec<OwnedFd>, ListenError> {
    let (end, port) = (&rule.listen, place.ports.first());
    let any = |v6: bool| -> SocketAddr {
        match v6 {
            true => (Ipv6Addr::UNSPECIFIED, port).into(),
            false => (Ipv4Addr::UNSPECIFIED, port).into(),
        }
    };
    let addresses: Vec<SocketAddr> = match &place.host {
        Host::This => {
            return match bound(rule, any(true)) {
                // A host without IPv6.
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => bound(rule, any(false)),
                done => done,
            }
            .map(|socket| vec![socket])
            .map_err(|errno| of(end, errno));
        }
        Host::Address(IpAddr::V6(address), zone) => vec![SocketAddrV6::new(*address, port, 0, *zone).into()],
        Host::Address(address, _) => vec![SocketAddr::new(*address, port)],
        Host::Zoned(there) => {
            let there = zoned(there, port);
            vec![there.map_err(|error| ListenError::NoAddress(end.clone(), error.to_string()))?]
        }
        Host::Named(name) => std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port))
            .map_err(|error| ListenError::NoAddress(end.clone(), error.to_string()))?
            .collect(),
    };
    addresses.into_iter().map(|address| bound(rule, address).map_err(|errno| of(end, errno))).collect()
}

/// A socket with what connections inherit from it.
fn bound(rule: &Rule, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // What an earlier start left behind in TIME_WAIT does not keep the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if let SocketAddr::V6(v6) = address {
        sockopt::set_ipv6_v6only(&socket, !v6.ip().is_unspecified())?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(after) = rule.options.keepalive {
        keep_alive(&socket.as_fd(), after).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

fn unix(rule: &Rule, path: &Path) -> Result<OwnedFd, ListenError> {
    let end = &rule.listen;
    let failed = |errno| of(end, errno);
    let address = unix_address(path).map_err(|error| ListenError::Other { end: end.clone(), error })?;
    let socket = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
    };
    let mine = socket().map_err(failed)?;
    match rustix::net::bind(&mine, &address) {
        Err(Errno::ADDRINUSE) if path.is_absolute() => {}
        done => return done.map(|()| mine).map_err(failed),
    }
    // A file is there. What a program that was killed left behind refuses.
    let is_socket = std::fs::symlink_metadata(path)
        .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()));
    if !is_socket {
        return Err(ListenError::NoSocket(path.to_path_buf()));
    }
    match rustix::net::connect(&socket().map_err(failed)?, &address) {
        Err(Errno::CONNREFUSED) => {}
        _ => return Err(ListenError::InUse { end: end.clone(), who: "see `ss -lxp`".to_owned() }),
    }
    std::fs::remove_file(path).map_err(|error| ListenError::Other { end: end.clone(), error })?;
    rustix::net::bind(&mine, &address).map_err(failed)?;
    Ok(mine)
}

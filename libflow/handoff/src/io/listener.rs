//! The hand-over socket itself.
#![expect(unsafe_code, reason = "a socket option whose type in rustix holds less than the kernel gives")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

use super::watch::watch_readable;
use crate::server::Process;

/// A bound, listening socket; its file goes when it is dropped, unless it was inherited.
pub(crate) struct Listener {
    socket: AsyncFd<OwnedFd>,
    /// The file, and its device and inode.
    file: Option<(PathBuf, (u64, u64))>,
}

impl Listener {
    /// Binds, taking a dead server's file over. `AddrInUse` while a living one listens there.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let socket = new_socket()?;
        if let Err(error) = rustix::net::bind(&socket, &address) {
            if error != Errno::ADDRINUSE || rustix::net::connect(&new_socket()?, &address) != Err(Errno::CONNREFUSED) {
                return Err(error.into());
            }
            std::fs::remove_file(path)?;
            rustix::net::bind(&socket, &address)?;
        }
        // Every user may ask; the credentials of the caller decide what it gets.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        let file = std::fs::metadata(path)?;
        rustix::net::listen(&socket, 1024)?;
        let file = Some((path.to_path_buf(), (file.dev(), file.ino())));
        Ok(Self { socket: watch_readable(socket)?, file })
    }

    /// A socket that listens already and whose file is its maker's.
    pub(crate) fn inherit(socket: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            let text =
                "the hand-over socket that was passed is no SEQPACKET socket; see the unit's ListenSequentialPacket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: watch_readable(socket)?, file: None })
    }

    /// The next lease and whose it is. `None`: it ended before it was looked at.
    pub(crate) async fn accept(&self) -> io::Result<Option<(OwnedFd, Process)>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let interest = tokio::io::Interest::READABLE;
        let socket = match self.socket.async_io(interest, |s| Ok(rustix::net::accept_with(s, flags)?)).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(None),
            other => other?,
        };
        Ok(peer(&socket).map(|process| (socket, process)))
    }
}

/// The process at the other end of a socket; its number is 0 where this process cannot see it.
fn peer(socket: &OwnedFd) -> Option<Process> {
    // Not rustix' `socket_peercred`: its numbers of processes are never 0, and the kernel's may be.
    let mut who = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: `who` is as large as `bytes` says, any bytes are a value of it, and both outlive the call.
    let answer = unsafe {
        let place = (&raw mut who).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &raw mut bytes)
    };
    let pid = u32::try_from(who.pid).ok()?;
    (answer == 0).then_some(Process { pid, uid: who.uid, gid: who.gid })
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some((path, inode)) = &self.file else { return };
        // A successor may have taken the path over already.
        if std::fs::metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == *inode) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A SEQPACKET socket. Non-blocking: nobody shares a lease's file description.
pub(crate) fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

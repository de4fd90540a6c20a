//! The run directory: one irmd per directory, its sockets, its limits.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use proto::RunDir;
use rustix::fs::{FlockOperation, flock};
use rustix::net::{SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::UnixListener;

/// Proof that no other irmd runs on the directory; ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Place {
    _lock: File,
}

impl Place {
    /// Makes the directory if need be and takes it.
    pub(super) fn take(run_dir: &RunDir) -> anyhow::Result<Self> {
        let made = !run_dir.path().exists();
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o755)
            .create(run_dir.path())
            .with_context(|| format!("cannot make the run directory {run_dir}; choose another with --run-dir"))?;
        if made {
            // Whatever the umask: programs of other users must get in.
            fs::set_permissions(run_dir.path(), fs::Permissions::from_mode(0o755))?;
        }
        let path = run_dir.path().join("irmd.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}; choose another --run-dir", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            lock.read_to_string(&mut pid).unwrap_or_default();
            bail!("irmd already runs on {run_dir} (pid {}); stop it or choose another --run-dir", pid.trim());
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { _lock: lock })
    }
}

/// Sockets that a service manager opened for irmd, told apart by their type.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// For gRPC.
    pub(super) calls: Option<OwnedFd>,
    /// For the hand-over.
    pub(super) handoff: Option<OwnedFd>,
}

impl Given {
    /// Takes them. To be called once.
    pub(super) fn take() -> anyhow::Result<Self> {
        let mut given = Self::default();
        for socket in handoff::service::sockets().context("the service manager's sockets cannot be taken")? {
            match sockopt::socket_type(&socket) {
                Ok(SocketType::STREAM) => given.calls = Some(socket),
                Ok(SocketType::SEQPACKET) => given.handoff = Some(socket),
                _ => bail!(
                    "the service manager passed what is neither irmd.sock (ListenStream) nor irmd.flow \
                     (ListenSequentialPacket); see dist/systemd/flowring-irmd.socket"
                ),
            }
        }
        Ok(given)
    }
}

/// irmd's gRPC socket: the one that a service manager gave, else bound here; a stale one is taken over. The caller holds
/// the [`Place`], so nobody serves there. Says whether its file is ours to remove.
pub(super) fn listen(path: &Path, given: Option<OwnedFd>) -> anyhow::Result<(UnixListener, bool)> {
    if let Some(socket) = given {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        return Ok((UnixListener::from_std(listener)?, false));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(anyhow!(error)).with_context(|| format!("cannot take over {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    // Every user may use flows; who may do what is decided by credentials.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok((listener, true))
}

/// Removes the socket at an orderly end.
pub(super) fn leave(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// Lets the process have as many descriptors as the system allows it.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        tracing::warn!("the limit of descriptors stays at {:?}", limit.current);
    }
}

/// Resident memory, bytes; 0 where it cannot be told.
pub(super) fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib * 1024
}

/// A process' command, as the kernel names it; empty where it is gone.
pub(super) fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

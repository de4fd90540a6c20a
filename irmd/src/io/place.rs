//! The run directory: one irmd per directory, its sockets, its limits.
#![expect(unsafe_code, reason = "descriptors are found by number")]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use proto::RunDir;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::{FdFlags, fcntl_setfd};
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
        check_folder(run_dir.path())?;
        let path = run_dir.path().join("irmd.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Whoever can open it, even to read, can take the lock, and no irmd would start again.
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .with_context(|| format!("cannot open {}; choose another --run-dir", path.display()))?;
        lock.set_permissions(fs::Permissions::from_mode(0o600))?;
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

/// Whether nobody else can put files in a folder of irmd's, or take them out: else others could stand in for it, or
/// give it names and rules.
pub(super) fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    let about = fs::metadata(folder).with_context(|| format!("cannot look at {shown}"))?;
    let own = rustix::process::geteuid().as_raw();
    if about.uid() != own && about.uid() != 0 {
        let owner = about.uid();
        bail!("{shown} is user {owner}'s, who could replace irmd's files there; choose a folder of user {own}'s own");
    }
    if about.mode() & 0o022 != 0 {
        let mode = about.mode() & 0o7777;
        bail!("{shown} may be written by others (mode {mode:o}), who could replace irmd's files; chmod go-w {shown}");
    }
    // A folder above that anybody may change, and that does not keep them to what is their own.
    for above in std::path::absolute(folder)?.ancestors().skip(1) {
        let mode = fs::metadata(above).map_or(0, |about| about.mode());
        if mode & 0o1002 == 0o002 {
            let above = above.display();
            bail!("{above} may be written by anybody, who could replace {shown}; choose a folder elsewhere");
        }
    }
    Ok(())
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

/// What this process was given open beyond its standard streams is for no child of it: programs of other users are.
/// To be called before anything else is open.
pub(super) fn keep_descriptors() {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: nobody closes a descriptor meanwhile; one that is closed already (the listing's own) gives an error.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        fs::create_dir(&run).unwrap();
        for (bits, good) in [(0o755, true), (0o700, true), (0o775, false), (0o777, false), (0o1777, false)] {
            mode(&run, bits);
            let checked = check_folder(&run);
            assert_eq!(checked.is_ok(), good, "{bits:o}: {checked:?}");
            let taken = Place::take(&RunDir::find(Some(&run)).unwrap());
            assert_eq!(taken.is_ok(), good, "{bits:o}");
        }
        // The folder itself is fine, but the one above lets anybody replace it.
        mode(&run, 0o755);
        mode(dir.path(), 0o777);
        assert!(check_folder(&run).unwrap_err().to_string().contains("written by anybody"));
        mode(dir.path(), 0o1777);
        check_folder(&run).unwrap();
    }

    #[test]
    fn the_lock_can_be_opened_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::find(Some(dir.path())).unwrap();
        let lock = dir.path().join("irmd.lock");
        // As an earlier irmd left it.
        fs::write(&lock, "").unwrap();
        mode(&lock, 0o644);
        let place = Place::take(&run_dir).unwrap();
        assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o777, 0o600);
        assert!(Place::take(&run_dir).unwrap_err().to_string().contains("already runs"));
        drop(place);
        fs::remove_file(&lock).unwrap();
        std::os::unix::fs::symlink("/dev/null", &lock).unwrap();
        assert!(Place::take(&run_dir).is_err(), "it follows no link");
    }
}

//! Where the forwarder of the background is found: one for each folder, with a lock, a control socket and a log.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use proto::RunDir;
use rustix::fs::{Access, FlockOperation, OFlags, access, flock};

/// The folder of a forwarder's control socket.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// Proof that no other forwarder has the folder; ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Taken {
    folder: Folder,
    _lock: File,
}

impl Folder {
    /// The run directory; where that is another user's, as a system's irmd's is to who is not root, the user's own.
    pub(super) fn find(given: Option<&Path>) -> anyhow::Result<Self> {
        let run_dir = RunDir::find(given)?;
        let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let closed = run_dir.path().exists() && access(run_dir.path(), Access::WRITE_OK).is_err();
        let folder = match own {
            Some(own) if closed => Path::new(&own).join("flowring"),
            _ => run_dir.path().to_path_buf(),
        };
        let absolute = std::path::absolute(&folder);
        Ok(Self(absolute.with_context(|| format!("{} cannot be found", folder.display()))?))
    }

    /// The control socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("portfwd.sock")
    }

    /// The log, unless another is named.
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("portfwd.log")
    }

    /// For messages.
    pub(super) fn display(&self) -> impl std::fmt::Display {
        self.0.display()
    }

    /// Makes the folder if need be.
    pub(super) fn make(&self) -> anyhow::Result<()> {
        if self.0.is_dir() {
            return Ok(());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.0);
        made.with_context(|| format!("{} cannot be made; choose another with --run-dir", self.display()))?;
        // Whatever the umask: an irmd that comes later has its sockets here, too.
        Ok(fs::set_permissions(&self.0, fs::Permissions::from_mode(0o755))?)
    }

    /// Takes it.
    pub(super) fn take(&self) -> anyhow::Result<Taken> {
        self.make()?;
        let path = self.0.join("portfwd.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Whoever can open it, even to read, can take the lock.
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .with_context(|| format!("{} cannot be opened; choose another --run-dir", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            lock.read_to_string(&mut pid).unwrap_or_default();
            let (pid, dir) = (pid.trim(), self.display());
            bail!("portfwd runs already on {dir} (pid {pid}); portfwd reload takes other rules, portfwd stop ends it");
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        // What a forwarder that was killed left behind.
        match fs::remove_file(self.socket()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be taken over", self.socket().display()))?;
            }
            _ => {}
        }
        Ok(Taken { folder: self.clone(), _lock: lock })
    }
}

impl Taken {
    /// Where.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // An error: somebody tidied up.
        let _ = fs::remove_file(self.folder.socket());
    }
}

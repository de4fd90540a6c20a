//! Where a program of the background is found: one for each folder, with a lock, a control socket and a log.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use proto::RunDir;
use rustix::fs::{Access, FlockOperation, OFlags, access, flock};

/// The folder of a program's control socket.
#[derive(Clone, Debug)]
pub struct Folder {
    program: &'static str,
    path: PathBuf,
}

/// Proof that no other process of the program has the folder; ends with the process, however that ends.
#[derive(Debug)]
pub struct Taken {
    folder: Folder,
    _lock: File,
}

/// Takes the folder of one that `command` is to find. If that fails, a warning says that it will not.
pub fn take(program: &'static str, command: &str, given: Option<&Path>) -> Option<Taken> {
    let taken = Folder::find(program, given).and_then(|folder| folder.take());
    taken
        .inspect_err(|error| {
            tracing::warn!("{command} status, reload and stop will not find this one: {error:#}");
        })
        .ok()
}

impl Folder {
    /// The run directory; where that is another user's, as a system's irmd's is to who is not root, the user's own.
    pub fn find(program: &'static str, given: Option<&Path>) -> anyhow::Result<Self> {
        let run_dir = RunDir::find(given)?;
        let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let closed = run_dir.path().exists() && access(run_dir.path(), Access::WRITE_OK).is_err();
        let folder = match own {
            Some(own) if closed => Path::new(&own).join("flowring"),
            _ => run_dir.path().to_path_buf(),
        };
        let absolute = std::path::absolute(&folder);
        let path = absolute.with_context(|| format!("{} cannot be found", folder.display()))?;
        Ok(Self { program, path })
    }

    /// Whose.
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join(format!("{}.sock", self.program))
    }

    /// The log, unless another is named.
    pub fn log(&self) -> PathBuf {
        self.path.join(format!("{}.log", self.program))
    }

    /// For messages.
    pub fn display(&self) -> impl std::fmt::Display {
        self.path.display()
    }

    /// Makes the folder if need be.
    pub fn make(&self) -> anyhow::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.path);
        made.with_context(|| format!("{} cannot be made; choose another with --run-dir", self.display()))?;
        // Whatever the umask: an irmd that comes later has its sockets here, too.
        Ok(fs::set_permissions(&self.path, fs::Permissions::from_mode(0o755))?)
    }

    /// Takes it.
    pub fn take(&self) -> anyhow::Result<Taken> {
        self.make()?;
        let path = self.path.join(format!("{}.lock", self.program));
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
            let program = self.program;
            bail!(
                "{program} runs already on {dir} (pid {pid}); {program} reload takes other rules, {program} stop ends it"
            );
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        // What one that was killed left behind.
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
    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // An error: somebody tidied up.
        let _ = fs::remove_file(self.folder.socket());
    }
}

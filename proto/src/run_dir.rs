//! Where the daemons' sockets are.

use std::fmt;
use std::path::{Path, PathBuf};

/// The folder that holds one host's sockets. One irmd owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

/// No run directory could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunDirError;

impl RunDir {
    /// `given` (`--run-dir`), else `$FLOWRING_RUN_DIR`, else `/run/flowring` for root, else
    /// `$XDG_RUNTIME_DIR/flowring`.
    pub fn find(given: Option<&Path>) -> Result<Self, RunDirError> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self::choose(
            given,
            var("FLOWRING_RUN_DIR").as_deref(),
            rustix::process::geteuid().is_root(),
            var("XDG_RUNTIME_DIR").as_deref(),
        )
    }

    fn choose(
        given: Option<&Path>,
        flowring: Option<&Path>,
        root: bool,
        xdg: Option<&Path>,
    ) -> Result<Self, RunDirError> {
        if let Some(path) = given.or(flowring) {
            return Ok(Self(path.to_path_buf()));
        }
        if root {
            return Ok(Self("/run/flowring".into()));
        }
        xdg.map(|path| Self(path.join("flowring"))).ok_or(RunDirError)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// irmd's gRPC socket.
    pub fn irmd(&self) -> PathBuf {
        self.0.join("irmd.sock")
    }

    /// irmd's hand-over socket: leases of programs, local flows.
    pub fn irmd_handoff(&self) -> PathBuf {
        self.0.join("irmd.flow")
    }

    /// An IPCP's gRPC socket.
    pub fn ipcp(&self, name: &str) -> PathBuf {
        self.0.join(format!("ipcp-{name}.sock"))
    }

    /// An IPCP's hand-over socket.
    pub fn ipcp_handoff(&self, name: &str) -> PathBuf {
        self.0.join(format!("ipcp-{name}.flow"))
    }
}

impl fmt::Display for RunDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl fmt::Display for RunDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no run directory: give --run-dir DIR, or set FLOWRING_RUN_DIR or XDG_RUNTIME_DIR")
    }
}

impl std::error::Error for RunDirError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_set_wins() {
        let (a, b, c) = (Path::new("/a"), Path::new("/b"), Path::new("/c"));
        let run_dir = |path: &str| Ok(RunDir(path.into()));
        assert_eq!(RunDir::choose(Some(a), Some(b), true, Some(c)), run_dir("/a"));
        assert_eq!(RunDir::choose(None, Some(b), true, Some(c)), run_dir("/b"));
        assert_eq!(RunDir::choose(None, None, true, Some(c)), run_dir("/run/flowring"));
        assert_eq!(RunDir::choose(None, None, false, Some(c)), run_dir("/c/flowring"));
        assert_eq!(RunDir::choose(None, None, false, None), Err(RunDirError));
    }
}

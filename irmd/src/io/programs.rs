//! Programs that were started on demand, written down in the run directory: the next irmd does not start them again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::machine::ChildId;

/// One that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    /// The name that it was started for.
    pub(super) name: String,
    pub(super) path: String,
    pub(super) pid: u32,
    /// When the kernel says that it began, in its ticks since the host's start: numbers of processes recycle.
    began: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    #[serde(default, rename = "program")]
    programs: Vec<Program>,
}

/// Those of this irmd.
#[derive(Debug)]
pub(super) struct Programs {
    path: PathBuf,
    running: BTreeMap<ChildId, Program>,
}

impl Program {
    /// Whether the process is still the one that was started.
    pub(super) fn runs(&self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

impl Programs {
    /// None yet; to be written to `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, running: BTreeMap::new() }
    }

    /// Those that an earlier irmd wrote down and that still run.
    pub(super) fn of_before(&self) -> Vec<Program> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let file: File = toml::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!("{} cannot be read: programs may be started twice: {error}", self.path.display());
            File::default()
        });
        file.programs.into_iter().filter(Program::runs).collect()
    }

    pub(super) fn started(&mut self, child: ChildId, name: &str, path: &str, pid: u32) {
        // One that has ended already need not be remembered.
        let Some(began) = began(pid) else { return };
        self.add(child, Program { name: name.to_owned(), path: path.to_owned(), pid, began });
    }

    pub(super) fn add(&mut self, child: ChildId, program: Program) {
        self.running.insert(child, program);
        self.write();
    }

    pub(super) fn ended(&mut self, child: ChildId) {
        if self.running.remove(&child).is_some() {
            self.write();
        }
    }

    /// Not synced: who needs the file outlives irmd, not the host.
    fn write(&self) {
        let file = File { programs: self.running.values().cloned().collect() };
        let new = self.path.with_extension("new");
        let written = toml::to_string(&file).map_err(|error| error.to_string()).and_then(|text| {
            fs::write(&new, text).and_then(|()| fs::rename(&new, &self.path)).map_err(|e| e.to_string())
        });
        if let Err(error) = written {
            tracing::warn!("programs may be started twice after a restart: {}: {error}", self.path.display());
        }
    }
}

/// Field 22 of /proc/PID/stat; counted from behind the command, which may contain anything. `None` of a process that has
/// ended.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_is_known_again_and_who_ended_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("programs");
        let mut programs = Programs::new(path.clone());
        let me = std::process::id();
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        programs.started(ChildId(1), "echo", "/bin/\"echo\"\n", me);
        programs.started(ChildId(2), "other", "/bin/sleep", other.id());
        programs.started(ChildId(3), "gone", "/bin/true", u32::MAX);
        let before = Programs::new(path.clone()).of_before();
        assert_eq!(
            before.iter().map(|p| (p.pid, p.path.as_str())).collect::<Vec<_>>(),
            [(me, "/bin/\"echo\"\n"), (other.id(), "/bin/sleep")]
        );
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(Programs::new(path.clone()).of_before().len(), 1);
        // The same number, another process.
        let recycled = Program { began: before[0].began + 1, ..before[0].clone() };
        assert!(before[0].runs() && !recycled.runs());
        programs.ended(ChildId(1));
        assert_eq!(Programs::new(path.clone()).of_before(), []);
        fs::write(&path, "no such file").unwrap();
        assert_eq!(Programs::new(path).of_before(), []);
    }
}

//! Files: irmd.toml, what was made at run time, which flow ids are taken.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use handoff::kept::{self, KEY};

use super::{identity, known, place, users};
use crate::config::Config;
use crate::machine::trust::Known;

/// Flow ids reserved at a time: one small write per so many flows.
const RESERVE: u64 = 4_096;

/// irmd's own files.
#[derive(Debug)]
pub(super) struct State {
    runtime: PathBuf,
    known: PathBuf,
    flow_ids: PathBuf,
    reserved: u64,
    ticket_key: [u8; KEY],
    restarted: bool,
}

impl State {
    /// Makes the state directory. The flow ids are kept beside the sockets: like flows, they do not outlive the
    /// host.
    pub(super) fn open(state_dir: &Path, run_dir: &Path) -> anyhow::Result<Self> {
        // Whatever the umask: nobody else writes there.
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o755)
            .create(state_dir)
            .with_context(|| format!("cannot make the state directory {}; give --state-dir", state_dir.display()))?;
        // What is read from here at the start says which programs to run, and as whom.
        place::check_folder(state_dir)?;
        let flow_ids = run_dir.join("flow-ids");
        let ticket_key = kept::secret(&state_dir.join("irmd.key"))?;
        let restarted = flow_ids.exists();
        let reserved = fs::read_to_string(&flow_ids).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let (runtime, known) = (state_dir.join("runtime.toml"), state_dir.join("known-hosts"));
        Ok(Self { runtime, known, flow_ids, reserved, ticket_key, restarted })
    }

    /// Seals the tickets of local flows. Of this host, and never told: who knows it makes flows of others appear as its
    /// own.
    pub(super) fn ticket_key(&self) -> [u8; KEY] {
        self.ticket_key
    }

    /// An earlier irmd ran here since the host's start: its programs and IPCPs may come back.
    pub(super) fn restarted(&self) -> bool {
        self.restarted
    }

    /// The first flow id that no earlier irmd can have minted.
    pub(super) fn first_flow(&self) -> u64 {
        self.reserved + 1
    }

    /// Makes sure that ids up to beyond `next` are never minted again.
    pub(super) fn reserve(&mut self, next: u64) {
        if next + RESERVE / 4 < self.reserved {
            return;
        }
        let upto = next + RESERVE;
        match write(&self.flow_ids, &upto.to_string()) {
            Ok(()) => self.reserved = upto,
            Err(error) => tracing::warn!("flow ids may repeat after a restart: {error:#}"),
        }
    }

    /// An orderly end: the next irmd counts on.
    pub(super) fn release(&self, next: u64) {
        if let Err(error) = write(&self.flow_ids, &(next - 1).to_string()) {
            tracing::warn!("flow ids skip some after the restart: {error:#}");
        }
    }

    /// What an earlier irmd's tools made.
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        let mut config = read(&self.runtime)?.unwrap_or_default();
        // Somebody who was removed meanwhile keeps nobody from being served.
        for missing in config.look_up(&users::id) {
            tracing::warn!("{}: {missing}; until then it is nobody", self.runtime.display());
        }
        for unread in config.read_cas(&identity::cas) {
            tracing::warn!("{}: {unread}; until then they stand behind nobody", self.runtime.display());
        }
        Ok(config)
    }

    /// The hosts that an earlier irmd's flows were trusted with.
    pub(super) fn known(&self) -> anyhow::Result<Vec<Known>> {
        known::load(&self.known)
    }

    /// Writes them down.
    pub(super) fn save_known<'a>(&self, all: impl Iterator<Item = &'a Known>) {
        known::save(&self.known, all);
    }

    /// Writes down what was made at run time.
    pub(super) fn save(&self, config: &Config) {
        let text = "# Written by irmd: what irm made at run time. Changed here while irmd is stopped, it holds.\n";
        let saved =
            config.to_toml().map_err(|e| anyhow!(e)).and_then(|toml| write(&self.runtime, &(text.to_owned() + &toml)));
        if let Err(error) = saved {
            tracing::warn!("what was made at run time is lost with irmd: {error:#}");
        }
    }
}

/// irmd.toml: the one given, which must be there, else the usual one if it is.
pub(super) fn configuration(given: Option<&Path>) -> anyhow::Result<Config> {
    if let Some(path) = given {
        let config = declared(path)?;
        return config.ok_or_else(|| anyhow!("no file {}; give --config FILE that exists", path.display()));
    }
    let Some(path) = usual_config() else { return Ok(Config::default()) };
    Ok(declared(&path)?.unwrap_or_default())
}

/// What a file declares that somebody wrote: all whom it names must exist.
fn declared(path: &Path) -> anyhow::Result<Option<Config>> {
    let Some(mut config) = read(path)? else { return Ok(None) };
    let mut missing = config.look_up(&users::id);
    missing.extend(config.read_cas(&identity::cas));
    match missing.as_slice() {
        [] => Ok(Some(config)),
        missing => Err(anyhow!("{}: {}", path.display(), missing.join("; "))),
    }
}

fn usual_config() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/etc/flowring/irmd.toml".into());
    }
    let home = || Some(dir("HOME")?.join(".config"));
    Some(dir("XDG_CONFIG_HOME").or_else(home)?.join("flowring/irmd.toml"))
}

/// Where the state is kept: `given`, else within a run directory that was chosen, else where the system keeps state.
pub(super) fn state_dir(given: Option<&Path>, run_dir: &Path, run_dir_chosen: bool) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_path_buf());
    }
    if run_dir_chosen || dir("FLOWRING_RUN_DIR").is_some() {
        return Ok(run_dir.join("state"));
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/flowring".into());
    }
    let home = || Some(dir("HOME")?.join(".local/state"));
    let base = dir("XDG_STATE_HOME").or_else(home);
    Ok(base.ok_or_else(|| anyhow!("no place for the state: give --state-dir DIR, or set HOME"))?.join("flowring"))
}

fn dir(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn read(path: &Path) -> anyhow::Result<Option<Config>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let config = Config::parse(&text).map_err(|e| anyhow!("{}: {e}", path.display()))?;
    Ok(Some(config))
}

/// Replaces a file at once: a crash leaves the old one or the new one.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let replace = || {
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, path)
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}

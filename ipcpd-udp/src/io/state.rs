//! What is kept over restarts: the host's id, the key of the tickets; and what one start draws.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use handoff::kept::{random, secret};
use proto::{BootId, HostId};

/// Identities of this host and of this start.
pub(super) struct Identity {
    pub(super) host: HostId,
    pub(super) boot: BootId,
    /// Seals tickets; of this IPCP, so that another one's ticket is no good here.
    pub(super) ticket_key: [u8; 32],
    /// An earlier start made the key: programs may have tickets of it, and flows to bring back.
    pub(super) restarted: bool,
    /// How many starts there were before.
    pub(super) start: u64,
    /// Of the machine's random numbers.
    pub(super) seed: [u8; 32],
}

/// Reads what earlier starts left in the state directory; makes it at the first.
pub(super) fn identity(state_dir: &Path, ipcp: &str) -> anyhow::Result<Identity> {
    // Whatever the umask: nobody else writes there.
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o755)
        .create(state_dir)
        .with_context(|| format!("the state directory {} cannot be made", state_dir.display()))?;
    let host = secret::<8>(&state_dir.join("host-id"))?;
    let key_path = state_dir.join(format!("ipcp-{ipcp}.key"));
    let restarted = key_path.exists();
    let ticket_key = secret::<32>(&key_path)?;
    let boot = u64::from_be_bytes(random()?);
    let host = HostId(u64::from_be_bytes(host));
    let start = next_start(&state_dir.join(format!("ipcp-{ipcp}.starts")));
    Ok(Identity { host, boot: BootId(boot), ticket_key, restarted, start, seed: random()? })
}

/// Counts the starts, in a file. Where that cannot be written, by chance: then ports of the last start are used again sooner.
fn next_start(path: &Path) -> u64 {
    let before = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    let start = before.map_or_else(|| random().map_or(0, u64::from_be_bytes), |before: u64| before.wrapping_add(1));
    let draft = path.with_extension(format!("starts-{}", std::process::id()));
    if let Err(error) = fs::write(&draft, format!("{start}\n")).and_then(|()| fs::rename(&draft, path)) {
        tracing::warn!(%error, "{} cannot be written; check the directory's owner", path.display());
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_host_stays_the_host_and_a_start_is_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let [a, b] = [identity(&state, "udp0").unwrap(), identity(&state, "udp0").unwrap()];
        assert_eq!((a.host, a.ticket_key), (b.host, b.ticket_key));
        assert_eq!((a.restarted, b.restarted), (false, true));
        assert_eq!(b.start, a.start.wrapping_add(1));
        let starts = state.join("ipcp-udp0.starts");
        fs::write(&starts, "41\n").unwrap();
        assert_eq!(identity(&state, "udp0").unwrap().start, 42);
        assert_eq!(fs::read_to_string(&starts).unwrap(), "42\n");
        fs::write(&starts, "nonsense").unwrap();
        let after_nonsense = identity(&state, "udp0").unwrap().start;
        assert_eq!(identity(&state, "udp0").unwrap().start, after_nonsense.wrapping_add(1));
        assert!(a.boot != b.boot && a.seed != b.seed);
        let other = identity(&state, "udp1").unwrap();
        assert_eq!(other.host, a.host);
        assert_ne!(other.ticket_key, a.ticket_key);
        let mode = fs::metadata(state.join("ipcp-udp0.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(state.join("host-id"), "short").unwrap();
        assert!(identity(&state, "udp0").is_err());
    }
}

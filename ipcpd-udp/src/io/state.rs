//! What is kept over restarts: the host's id, the key of the tickets; and what one start draws.
#![expect(clippy::disallowed_methods, reason = "io draws the randomness")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use proto::{BootId, HostId};

/// Identities of this host and of this start.
pub(super) struct Identity {
    pub(super) host: HostId,
    pub(super) boot: BootId,
    /// Seals tickets; of this IPCP, so that another one's ticket is no good here.
    pub(super) ticket_key: [u8; 32],
    /// An earlier start made the key: programs may have tickets of it, and flows to bring back.
    pub(super) restarted: bool,
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
    let host = kept::<8>(&state_dir.join("host-id"))?;
    let key_path = state_dir.join(format!("ipcp-{ipcp}.key"));
    let restarted = key_path.exists();
    if let Ok(about) = fs::metadata(&key_path)
        && about.mode() & 0o077 != 0
    {
        let (path, mode) = (key_path.display(), about.mode() & 0o777);
        anyhow::bail!(
            "{path} can be read by others (mode {mode:o}), who could forge tickets with it; remove it to have a new one made"
        );
    }
    let ticket_key = kept::<32>(&key_path)?;
    let boot = u64::from_be_bytes(random()?);
    let host = HostId(u64::from_be_bytes(host));
    Ok(Identity { host, boot: BootId(boot), ticket_key, restarted, seed: random()? })
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

/// The random number kept in a file, as hexadecimal text. Made under another name first, so that of two IPCPs that
/// start at once both read the same, and none a half.
fn kept<const N: usize>(path: &Path) -> anyhow::Result<[u8; N]> {
    for _ in 0..3 {
        match fs::read_to_string(path) {
            Ok(text) => {
                return from_hex(text.trim()).with_context(|| {
                    format!(
                        "{} does not hold {N} bytes as hexadecimal text; remove it to have a new one made",
                        path.display()
                    )
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path, &random::<N>()?)
                .with_context(|| format!("{} cannot be made; check the directory's owner", path.display()))?,
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }
    anyhow::bail!("{} disappears as soon as it is made; give another --state-dir", path.display())
}

fn make(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    // Fails where another process was faster: then its number is the one.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_host_stays_the_host_and_a_key_that_others_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let [a, b] = [identity(&state, "udp0").unwrap(), identity(&state, "udp0").unwrap()];
        assert_eq!((a.host, a.ticket_key), (b.host, b.ticket_key));
        assert_eq!((a.restarted, b.restarted), (false, true));
        assert!(a.boot != b.boot && a.seed != b.seed);
        let other = identity(&state, "udp1").unwrap();
        assert_eq!(other.host, a.host);
        assert_ne!(other.ticket_key, a.ticket_key);
        let mode = fs::metadata(state.join("ipcp-udp0.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(state.join("ipcp-udp0.key"), fs::Permissions::from_mode(0o640)).unwrap();
        let said = identity(&state, "udp0").err().unwrap().to_string();
        assert!(said.contains("can be read by others (mode 640)"), "{said}");
        fs::set_permissions(state.join("ipcp-udp0.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(state.join("host-id"), "short").unwrap();
        assert!(identity(&state, "udp0").is_err());
    }
}

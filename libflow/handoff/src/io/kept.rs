//! What a daemon keeps over restarts: random numbers in files, and the host's clock.
#![expect(clippy::disallowed_methods, reason = "io draws randomness and reads the clock")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use crate::machine::epoch::Epoch;

/// `N` random bytes from the system.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| io::Error::other(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes)
}

/// The random number kept in a file that only its owner reads, as hexadecimal text; made if there is none. Made under
/// another name first, so that of two daemons that start at once both read the same, and none a half.
pub fn secret<const N: usize>(path: &Path) -> io::Result<[u8; N]> {
    let said =
        |error: io::Error, what: &str| io::Error::new(error.kind(), format!("{} {what}: {error}", path.display()));
    for _ in 0..3 {
        match fs::read_to_string(path) {
            Ok(text) => {
                check_closed(path)?;
                return from_hex(text.trim()).ok_or_else(|| {
                    let text = format!(
                        "{} does not hold {N} bytes as hexadecimal text; remove it to have a new one made",
                        path.display()
                    );
                    io::Error::new(io::ErrorKind::InvalidData, text)
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path, &random::<N>()?).map_err(|e| said(e, "cannot be made; check the directory's owner"))?;
            }
            Err(error) => return Err(said(error, "cannot be read")),
        }
    }
    let text = format!("{} disappears as soon as it is made; give another --state-dir", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// Who has read a key forges what it seals.
fn check_closed(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let text = format!(
        "{} can be read by others (mode {mode:o}), who could forge tickets with it; remove it to have a new one made",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
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

/// Now, as this process and as the host count time.
pub fn epoch() -> Epoch {
    let host = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let ms = u64::try_from(host.tv_sec).unwrap_or(0) * 1000 + u64::try_from(host.tv_nsec).unwrap_or(0) / 1_000_000;
    Epoch { at: Instant::now(), ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_stays_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = secret::<32>(&path).unwrap();
        assert_eq!(secret::<32>(&path).unwrap(), made);
        assert_ne!(secret::<32>(&dir.path().join("other")).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let said = secret::<32>(&path).unwrap_err().to_string();
        assert!(said.contains("can be read by others (mode 640)"), "{said}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(secret::<32>(&path).unwrap_err().to_string().contains("remove it"));
        assert!(secret::<8>(&dir.path().join("none/key")).unwrap_err().to_string().contains("check the directory"));
    }
}

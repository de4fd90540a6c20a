//! Key files.
#![expect(clippy::disallowed_methods, reason = "io/: keys are random")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use proto::rendezvous::SessionKey;

/// Largest file, bytes.
const LARGEST: u64 = 4_096;
/// Shorter keys are guessed.
const SHORT: usize = 16;

/// Makes a key in a new file that only its owner reads: 32 random bytes, as text.
pub(super) fn make(path: &Path) -> anyhow::Result<()> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("the system has no random bytes: {error}"))?;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| {
        format!("{} cannot be made; an older key is not overwritten, move it away first", path.display())
    })?;
    let written = writeln!(file, "{}", data_encoding::BASE64.encode(&key)).and_then(|()| file.sync_all());
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// Reads a session's key. Doubts about it are told.
pub(super) fn read(session: &str, path: &Path) -> anyhow::Result<SessionKey> {
    let shown = path.display();
    let unreadable =
        || format!("the key file {shown} of session {session} cannot be read; make one with rendezvous key");
    let file = File::open(path).with_context(unreadable)?;
    let mode = file.metadata().with_context(unreadable)?.mode();
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    let length = bytes.trim_ascii_end().len();
    if length == 0 {
        bail!("the key file {shown} of session {session} is empty; make one with rendezvous key");
    }
    if bytes.len() as u64 > LARGEST {
        bail!("the key file {shown} of session {session} is larger than {LARGEST} bytes; is it another file?");
    }
    if length < SHORT {
        tracing::warn!("the key in {shown} has {length} bytes and can be guessed; make one with rendezvous key");
    }
    if mode & 0o007 != 0 {
        tracing::warn!("everybody on this host may read the key in {shown}; chmod o= {shown}");
    }
    Ok(SessionKey::new(session, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lobby.key");
        make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(data_encoding::BASE64.decode(text.trim_end().as_bytes()).unwrap().len(), 32);
        assert!(format!("{:#}", make(&path).unwrap_err()).contains("is not overwritten"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert!(read("lobby", &path).unwrap() == SessionKey::new("lobby", text.trim_end().as_bytes()));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lobby.key");
        let wrong = |want: &str| {
            let error = format!("{:#}", read("lobby", &path).map(|_| ()).unwrap_err());
            assert!(error.contains(want) && error.contains("lobby.key") && error.contains("session lobby"), "{error}");
        };
        wrong("cannot be read");
        std::fs::write(&path, " \n").unwrap();
        wrong("is empty");
        std::fs::write(&path, vec![b'a'; 5_000]).unwrap();
        wrong("larger than 4096 bytes");
    }
}

//! Reads the key's file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::machine::directory::key::Key;

/// A key's file is shorter.
const LONGEST: u64 = 65_536;

/// The key in a file that others can neither read nor write.
pub(super) fn read(path: &Path) -> Result<Key, String> {
    let at = path.display();
    let unusable =
        |error: std::io::Error| format!("the key file {at} cannot be read ({error}); check the path and its owner");
    let file = File::open(path).map_err(unusable)?;
    let mode = file.metadata().map_err(unusable)?.mode();
    if mode & 0o007 != 0 {
        return Err(format!(
            "the key file {at} is open to every user (mode {:03o}); make it private with chmod o= {at}",
            mode & 0o777
        ));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(unusable)?;
    Key::parse(&text).map_err(|error| format!("the key file {at} cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flows.key");
        assert!(read(&path).unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "key k { algorithm hmac-sha256; secret \"Zg==\"; };\n").unwrap();
        for (mode, fine) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), fine, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "key k {\n secret x;\n};\n").unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.contains("flows.key") && error.contains("line 2"), "{error}");
    }
}

//! Reads the key's file.

use std::path::Path;

use crate::io::private;
use crate::machine::directory::key::Key;

/// The key in a file that others can neither read nor write.
pub(super) fn read(path: &Path) -> Result<Key, String> {
    let at = path.display();
    let bytes = private::read(path)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("the key file {at} cannot be used: it is no text"))?;
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

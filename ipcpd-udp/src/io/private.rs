//! Files with keys.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A key's file is shorter.
const LONGEST: u64 = 65_536;

/// What is in a file that others can neither read nor write.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
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
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(unusable)?;
    Ok(bytes)
}

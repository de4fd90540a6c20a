//! Where rules come from: the command line, or a file that is read again.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use crate::said::fault::Fault;

/// Largest file, bytes.
const LARGEST: u64 = 8 << 20;

/// Where rules come from.
#[derive(Clone, Debug)]
pub struct Source {
    file: Option<PathBuf>,
    seen: Seen,
}

/// What a file that is another has otherwise: when it was written, its size, which it is.
type Seen = Option<(i64, i64, u64, u64)>;

impl Source {
    /// The command line.
    pub fn words() -> Self {
        Self { file: None, seen: None }
    }

    /// A file. Its path is made whole: a process in the background works in another folder.
    pub fn file(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path).with_context(|| format!("{} cannot be found", path.display()))?;
        Ok(Self { seen: look(&path), file: Some(path) })
    }

    /// There is one.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// For people.
    pub fn name(&self) -> Option<String> {
        self.file.as_ref().map(|path| path.display().to_string())
    }

    /// Whether the file is another than when this was last asked.
    pub fn changed(&mut self) -> bool {
        let Some(path) = &self.file else { return false };
        let now = look(path);
        // While an editor puts another in its place there may be none.
        now.is_some() && std::mem::replace(&mut self.seen, now) != now
    }

    /// Reads it. The error has the file's name, line and column.
    pub fn read<T>(&self, parse: impl FnOnce(&Path, &str) -> Result<T, Fault>) -> anyhow::Result<T> {
        let Some(path) = &self.file else { bail!("there is no file of rules") };
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
        let mut text = String::new();
        let read = file.take(LARGEST + 1).read_to_string(&mut text);
        read.with_context(|| format!("{shown} cannot be read"))?;
        if text.len() as u64 > LARGEST {
            bail!("{shown} is larger than {LARGEST} bytes, which no file of rules needs to be");
        }
        parse(path, &text).map_err(|fault| anyhow!("{shown}:{fault}"))
    }
}

fn look(path: &Path) -> Seen {
    let about = std::fs::metadata(path).ok()?;
    Some((about.mtime(), about.mtime_nsec(), about.size(), about.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_its_faults_have_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules");
        let source = Source::file(&path).unwrap();
        let read = || source.read(|_, text| text.parse::<u8>().map_err(|error| Fault::at(text, 2, error)));
        assert!(format!("{:#}", read().unwrap_err()).starts_with(&format!("{} cannot be read: ", path.display())));
        std::fs::write(&path, "12").unwrap();
        assert_eq!(read().unwrap(), 12);
        std::fs::write(&path, "1\nx").unwrap();
        let expected = format!("{}:2:1: invalid digit", path.display());
        assert!(read().unwrap_err().to_string().starts_with(&expected), "{}", read().unwrap_err());
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(format!("{:#}", read().unwrap_err()).contains("UTF-8"));
    }

    #[test]
    fn a_change_is_seen_once_and_a_file_that_is_gone_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules");
        std::fs::write(&path, "1 -> 2").unwrap();
        let mut source = Source::file(&path).unwrap();
        assert!(!source.changed());
        std::fs::write(&path, "1 -> 22").unwrap();
        assert_eq!([source.changed(), source.changed()], [true, false]);
        std::fs::remove_file(&path).unwrap();
        assert!(!source.changed());
        std::fs::write(folder.path().join("new"), "1 -> 22").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!([source.changed(), source.changed()], [true, false]);
    }
}

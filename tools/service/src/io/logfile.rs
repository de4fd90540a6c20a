//! Where the log goes: standard error, or a file that does not grow for ever.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context as _, anyhow};
use tracing_subscriber::EnvFilter;

use super::behind::Behind;

/// A file of this size, bytes, becomes the old one, in place of the one before.
const LARGEST: u64 = 16_000_000;

/// The log of this process.
static BEGUN: OnceLock<Behind> = OnceLock::new();

/// A log in a file. What is left of it in case of a panic is there, too: it is this process' standard error.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        let size = file.metadata()?.len();
        rustix::stdio::dup2_stderr(&file)?;
        Ok(Self { path: path.to_path_buf(), file, size })
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, &old)?;
        *self = Self::open(&self.path)?;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size + line.len() as u64 > LARGEST && self.turn().is_err() {
            // Where it cannot be renamed it is begun anew: a disk must not fill up.
            self.file.set_len(0)?;
            self.size = 0;
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on `tracing` writes what `filter` lets through, to a file or to standard error. Nobody waits for either: what they
/// cannot take is lost, and the log says how much that was. Before the process ends: [`flush`].
pub fn begin(program: &str, filter: &str, file: Option<&Path>) -> anyhow::Result<()> {
    let filter: EnvFilter =
        filter.parse().map_err(|error| anyhow!("--log {filter}: {error}; try info or {program}=debug"))?;
    let behind = match file {
        None => Behind::start(io::stderr()),
        Some(path) => {
            let file = LogFile::open(path).with_context(|| format!("the log {} cannot be opened", path.display()))?;
            Behind::start(file)
        }
    };
    let behind = behind.context("the thread of the log cannot be started")?;
    let ansi = file.is_none() && io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    log.with_ansi(ansi).with_writer(Mutex::new(BEGUN.get_or_init(|| behind).clone())).init();
    Ok(())
}

/// Has what was said be written, before the process ends.
pub fn flush() {
    if let Some(behind) = BEGUN.get() {
        behind.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_turned_over_and_two_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        // Not through `open`, which takes the test's standard error.
        let file = File::options().append(true).create(true).open(&path).unwrap();
        let mut log = LogFile { path: path.clone(), file, size: LARGEST - 3 };
        log.write_all(b"ab\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"ab\n");
        let own = rustix::io::dup(io::stderr()).unwrap();
        log.write_all(b"cd\n").unwrap();
        rustix::stdio::dup2_stderr(&own).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"cd\n");
        assert_eq!(std::fs::read(folder.path().join("log.1")).unwrap(), b"ab\n");
        assert_eq!(log.size, 3);
    }
}

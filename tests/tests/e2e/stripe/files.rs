//! `tcpstripe send` and `tcpstripe recv`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::flows::pattern;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON};
use lab::{Link, Output, Running};
use tempfile::TempDir;

use super::whole::BAD;

pub(super) fn cases() -> Vec<Case> {
    cases![
        a_file_is_sent_and_stored_whole,
        files_are_not_overwritten_and_not_half_stored,
        a_transfer_goes_on_where_it_was_killed,
        a_file_that_changed_does_not_go_on,
    ]
}

/// A file at host a, a folder at host b.
struct Stage {
    from: TempDir,
    to: TempDir,
    net: Net,
    accept: &'static str,
    dial: String,
}

impl Stage {
    fn over_flows() -> Result<Self> {
        let (net, dial) = (Net::up(&["files"])?, "flow:files".to_owned());
        Ok(Self { from: tempfile::tempdir()?, to: tempfile::tempdir()?, net, accept: "flow:files", dial })
    }

    fn over_tcp() -> Result<Self> {
        let net = Net::bare()?;
        let dial = format!("tcp:{}:9100", net.b.address());
        Ok(Self { from: tempfile::tempdir()?, to: tempfile::tempdir()?, net, accept: "tcp:0.0.0.0:9100", dial })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let file = self.from.path().join(name);
        std::fs::write(&file, bytes)?;
        Ok(file)
    }

    fn receive(&self, words: &[&str]) -> Result<Running> {
        let folder = self.to.path().display().to_string();
        let receiver = self.net.b.start("tcpstripe", &[&["recv", &folder, self.accept], words].concat())?;
        receiver.expect_line(SOON, "taking tracks on")?;
        Ok(receiver)
    }

    fn start(&self, file: &Path, words: &[&str]) -> Result<Running> {
        let file = file.display().to_string();
        self.net.a.start("tcpstripe", &[&["send", &file, &self.dial, "-n", "2"], words].concat())
    }

    fn send(&self, file: &Path, words: &[&str]) -> Result<Output> {
        self.start(file, words)?.wait(10 * SOON)
    }

    /// What is there of a file that is not whole, bytes.
    fn part(&self) -> Option<u64> {
        let mut all = std::fs::read_dir(self.to.path()).ok()?.flatten();
        let part = all.find(|entry| entry.file_name().to_string_lossy().ends_with(".part"))?;
        part.metadata().ok().map(|meta| meta.len())
    }

    /// Sends a file until some of it has come, and kills both ends then; what is there of it.
    fn broken(&self, file: &Path) -> Result<u64> {
        self.net.b.link().set(Link { rate: Some(40_000_000), ..Link::CLEAN })?;
        let mut receiver = self.receive(&[])?;
        let mut sender = self.start(file, &[])?;
        lab::wait_until(3 * SOON, "some of the file", || self.part().is_some_and(|len| len > 4_000_000))?;
        receiver.kill()?;
        sender.kill()?;
        self.part().context("a part")
    }
}

fn a_file_is_sent_and_stored_whole() -> Result<()> {
    for stage in [Stage::over_flows()?, Stage::over_tcp()?] {
        let bytes = pattern(4_000_000);
        let file = stage.write("a file.bin", &bytes)?;
        let mut receiver = stage.receive(&["--once"])?;
        stage.net.b.link().set(BAD)?;
        let sent = stage.send(&file, &[])?;
        ensure!(sent.code() == 0, "{sent:?}");
        let received = receiver.wait(SOON)?;
        ensure!(received.code() == 0, "{received:?}");
        ensure!(std::fs::read(stage.to.path().join("a file.bin"))? == bytes, "another file came");
        let hash = sent.out.split("SHA-256 ").nth(1).context("a hash")?.trim();
        ensure!(hash.len() == 64 && received.out.contains(hash), "{} {}", sent.out, received.out);
        ensure!(stage.part().is_none(), "a part is left of a file that is whole");
    }
    Ok(())
}

fn files_are_not_overwritten_and_not_half_stored() -> Result<()> {
    let stage = Stage::over_flows()?;
    let file = stage.write("data", &pattern(60_000_000))?;
    let target = stage.to.path().join("data");
    std::fs::write(&target, "mine")?;
    let receiver = stage.receive(&["--patience", "1"])?;
    let sent = stage.send(&file, &[])?;
    ensure!(sent.code() == 1 && sent.err.contains("data is there already"), "{sent:?}");
    ensure!(std::fs::read(&target)? == b"mine");
    std::fs::remove_file(&target)?;
    // Killed in the middle: nothing has its name.
    stage.net.b.link().set(Link { rate: Some(20_000_000), ..Link::CLEAN })?;
    let mut sender = stage.start(&file, &[])?;
    lab::wait_until(SOON, "a part of the file", || stage.part().is_some_and(|len| len > 0))?;
    sender.kill()?;
    receiver.expect_log(10 * SOON, "data is not stored")?;
    ensure!(!target.exists(), "half a file is stored");
    Ok(())
}

fn a_transfer_goes_on_where_it_was_killed() -> Result<()> {
    for stage in [Stage::over_flows()?, Stage::over_tcp()?] {
        let bytes = pattern(20_000_000);
        let file = stage.write("data", &bytes)?;
        let part = stage.broken(&file)?;
        let before = stage.net.b.link().counts()?.1.passed;
        let receiver = stage.receive(&[])?;
        let sent = stage.send(&file, &[])?;
        ensure!(sent.code() == 0, "{sent:?}");
        ensure!(std::fs::read(stage.to.path().join("data"))? == bytes, "another file came");
        let frames = stage.net.b.link().counts()?.1.passed - before;
        // What was there did not come again: with frames of 1,200 bytes at least, and a few to begin with.
        let most = (bytes.len() as u64 - part) / 1_200 + 1_000;
        ensure!(frames < most, "{frames} frames for {} of {} bytes", bytes.len() as u64 - part, bytes.len());
        ensure!(stage.part().is_none(), "a part is left of a file that is whole");
        drop(receiver);
    }
    Ok(())
}

fn a_file_that_changed_does_not_go_on() -> Result<()> {
    let stage = Stage::over_flows()?;
    let mut bytes = pattern(20_000_000);
    let file = stage.write("data", &bytes)?;
    let part = stage.broken(&file)?;
    bytes[1_000] ^= 1;
    stage.write("data", &bytes)?;
    let receiver = stage.receive(&[])?;
    let refused = stage.send(&file, &[])?;
    ensure!(refused.code() == 1 && refused.err.contains("has changed since; send with --anew"), "{refused:?}");
    // A shorter one of that name, too.
    stage.write("data", b"short")?;
    let refused = stage.send(&file, &[])?;
    ensure!(refused.code() == 1 && refused.err.contains("--anew"), "{refused:?}");
    ensure!(stage.part() == Some(part), "what was there is lost");
    stage.write("data", &bytes)?;
    stage.net.b.link().set(Link::CLEAN)?;
    let sent = stage.send(&file, &["--anew"])?;
    ensure!(sent.code() == 0, "{sent:?}");
    ensure!(std::fs::read(stage.to.path().join("data"))? == bytes, "another file came");
    drop(receiver);
    Ok(())
}

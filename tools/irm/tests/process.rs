//! `irm` as a process: exit codes and sentences where no irmd is needed.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn irm(run_dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irm"));
    command.args(args).arg("--run-dir").arg(run_dir).output().unwrap()
}

fn said(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test measures")]
fn no_irmd_is_said_at_once_with_the_path_tried() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    for args in [&["status"][..], &["flow", "list", "--json"], &["name", "create", "echo"], &["config", "export"]] {
        let output = irm(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let path = dir.path().join("irmd.sock");
        let start = format!("irmd --run-dir {}", dir.path().display());
        let said = said(&output);
        assert!(said.starts_with("irm: "), "{said}");
        assert!(
            said.contains(path.to_str().unwrap()) && said.contains("no such socket") && said.contains(&start),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_dead_irmds_socket_is_told_from_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("irmd.sock")).unwrap());
    let output = irm(dir.path(), &["status"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("nobody listens there"), "{}", said(&output));
}

#[test]
fn an_irmd_that_never_answers_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(dir.path().join("irmd.sock")).unwrap();
    let output = irm(dir.path(), &["status"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("does not answer"), "{}", said(&output));
}

#[test]
fn programs_are_looked_at_before_irmd_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain.txt");
    std::fs::write(&plain, "no program").unwrap();
    let missing = dir.path().join("missing");
    let table = [
        (plain.to_str().unwrap(), "not executable"),
        (missing.to_str().unwrap(), "No such file"),
        (dir.path().to_str().unwrap(), "no file"),
        ("no-such-program-anywhere", "in PATH"),
        // A program that is there: only now is irmd asked.
        ("sh", "irmd is not reachable"),
    ];
    for (program, want) in table {
        let output = irm(dir.path(), &["bind", "program", program, "--name", "echo"]);
        assert_eq!(output.status.code(), Some(2), "{program}");
        assert!(said(&output).contains(want), "{program}: {}", said(&output));
    }
}

#[test]
fn completions_need_no_irmd() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = irm(dir.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("bootstrap"), "{shell}");
    }
}

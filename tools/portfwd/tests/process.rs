//! `portfwd` as a process, where no network is needed.

use std::path::Path;
use std::process::{Command, Output};

fn portfwd(run_dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portfwd"));
    command.args(args).env("FLOWRING_RUN_DIR", run_dir).env("XDG_CONFIG_HOME", run_dir).env_remove("FLOWRING_LOG");
    command.output().unwrap()
}

/// Its exit code and the one line that it says on standard error.
fn said(output: &Output) -> (Option<i32>, String) {
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.starts_with("portfwd: ") && err.lines().count() == 1, "{err}");
    (output.status.code(), err)
}

#[test]
fn completions_and_help_need_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["--completions", "bash"][..], &["--completions", "zsh"], &["--help"], &["start", "--help"]] {
        let output = portfwd(folder.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("watch"), "{args:?}");
    }
}

#[test]
fn what_cannot_be_is_one_sentence_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules");
    std::fs::write(&file, "7005 -> 80\n7005 -> 81\n").unwrap();
    let file = file.to_str().unwrap();
    let rows: [(&[&str], i32, &str); 9] = [
        (&["7005", "nowhere"], 2, "'nowhere' has no port"),
        (&["7005", "udp:80"], 2, "cannot be joined"),
        (&["flow:a", "flow:b"], 2, "a flow to a flow"),
        (&[file], 1, "rules:2:1: 7005 is listened at by line 1 already"),
        (&["check", file], 1, "rules:2:1: "),
        (&["--config", "/no/such/file"], 1, "/no/such/file cannot be read"),
        (&["status"], 3, "no portfwd runs"),
        (&["reload"], 3, "no portfwd runs"),
        (&["stop"], 3, "no portfwd runs"),
    ];
    for (args, code, want) in rows {
        let (ended, words) = said(&portfwd(folder.path(), args));
        assert_eq!(ended, Some(code), "{args:?}: {words}");
        assert!(words.contains(want), "{args:?}: {words}");
    }
    let (ended, words) = said(&portfwd(folder.path(), &["start", "--log", "[", "7005", "80"]));
    assert_eq!(ended, Some(1), "{words}");
    assert!(words.contains("--log ["), "what the process in the background cannot do is told: {words}");
}

#[test]
fn checking_a_file_prints_the_single_rules() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules");
    std::fs::write(&file, "# ports\n8000-8001 -> 10.0.0.1:9000-9001\nudp:53 -> flow:dns\n").unwrap();
    let output = portfwd(folder.path(), &["check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let expected = "8000 -> 10.0.0.1:9000\n8001 -> 10.0.0.1:9001\nudp:53 -> flow:dns\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

//! `flowcat` as a process, where no irmd is needed.

use std::process::{Command, Output};

fn flowcat(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowcat")).args(args).output().unwrap()
}

#[test]
fn no_irmd_is_exit_code_2_at_once() {
    let dir = std::env::temp_dir().join(format!("flowcat-without-irmd-{}", std::process::id()));
    for args in [&["echo"][..], &["--listen", "echo"]] {
        let output = flowcat(&[args, &["--run-dir", dir.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.starts_with("flowcat: ") && said.contains("irmd.sock") && said.contains("irmd --run-dir"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn completions_and_help_need_no_irmd() {
    for args in [&["--completions", "bash"][..], &["--completions", "zsh"], &["--help"]] {
        let output = flowcat(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("progress"), "{args:?}");
    }
}

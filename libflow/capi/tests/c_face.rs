//! The C face, compiled and linked as C programs do it. With daemons it runs in the end-to-end tests.

use std::path::{Path, PathBuf};
use std::process::Command;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where cargo puts libflow.so for a test: beside it. One folder up lies that of the last `cargo build`, perhaps old.
fn library() -> PathBuf {
    let deps = std::env::current_exe().expect("this test").parent().expect("a folder").to_path_buf();
    let target = deps.parent().expect("a folder").to_path_buf();
    [deps, target].into_iter().find(|dir| dir.join("libflow.so").exists()).expect("libflow.so is built with this test")
}

fn compiler() -> Option<&'static str> {
    let found = ["cc", "gcc", "clang"].into_iter().find(|cc| Command::new(cc).arg("--version").output().is_ok());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI has a C compiler");
        eprintln!("SKIPPED: no C compiler (cc, gcc, clang) is installed, the C face is not tested");
    }
    found
}

fn compile(cc: &str, source: &str, program: &Path) {
    let output = Command::new(cc)
        .args(["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(here("include"))
        .arg(here(source))
        .arg("-L")
        .arg(library())
        .args(["-lflow", "-o"])
        .arg(program)
        .output()
        .expect("the compiler runs");
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(program: &Path, run_dir: &Path) -> std::process::Output {
    Command::new(program)
        .env("LD_LIBRARY_PATH", library())
        .env("FLOWRING_RUN_DIR", run_dir)
        .output()
        .expect("the program runs")
}

#[test]
fn every_call_links_and_says_what_is_wrong() {
    let Some(cc) = compiler() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("face");
    compile(cc, "tests/face.c", &program);
    let output = run(&program, dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_echo_pair_compiles_and_says_that_irmd_is_not_there() {
    let Some(cc) = compiler() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["echo_server", "echo_client", "words"] {
        let program = dir.path().join(name);
        compile(cc, &format!("examples/{name}.c"), &program);
        let output = run(&program, dir.path());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("irmd cannot be reached") && text.contains("irmd.sock"), "{text}");
    }
}

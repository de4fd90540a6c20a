//! `cargo xtask fuzz`: every target of tests/fuzz for some seconds each, with the installed toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};

/// The targets, in the order they run. Each is a program of tests/fuzz.
const TARGETS: [&str; 18] = [
    "request",
    "answer",
    "control",
    "rendezvous",
    "rendezvous_server",
    "handoff",
    "name",
    "chain",
    "directory",
    "config",
    "shim",
    "irm",
    "local",
    "capture",
    "forward",
    "rules",
    "stripe",
    "game",
];

/// What the compiler adds to a program so that libFuzzer sees which inputs reach something new. All of these are
/// stable; a sanitizer is not, and our own code has nothing for one to find outside a few small modules.
const COVERAGE: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];

/// What `cargo xtask fuzz` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// One target only
    target: Option<String>,
}

/// Fuzzes.
pub(crate) fn run(options: &Options) -> Result<()> {
    let chosen: Vec<&str> = match &options.target {
        None => TARGETS.to_vec(),
        Some(name) => match TARGETS.iter().find(|target| *target == name) {
            Some(target) => vec![target],
            None => bail!("no fuzz target {name}; there are: {}", TARGETS.join(", ")),
        },
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.join("tests/fuzz");
    let programs = build(&folder)?;
    at_once(&chosen, |target| fuzz(&folder, &programs.join(target), target, options.seconds))?;
    println!("No finding: {} for {} s each.", chosen.join(", "), options.seconds);
    Ok(())
}

/// Builds all targets; says where they are.
fn build(folder: &Path) -> Result<PathBuf> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    ensure!(
        Command::new(&compiler).arg("--version").output().is_ok_and(|output| output.status.success()),
        "{} does not run: libFuzzer is C++; install g++ or clang, or set CXX",
        Path::new(&compiler).display()
    );
    let host = host()?;
    let target_folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
    // With --target, what cargo runs while building (build scripts, macros) has no counters and links without libFuzzer.
    let status = lab::binaries::cargo()
        .args(["build", "--release", "--target", &host, "--target-dir"])
        .arg(&target_folder)
        .current_dir(folder)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"))
        .env_remove("RUSTFLAGS")
        .status()
        .context("cargo")?;
    ensure!(status.success(), "the fuzz targets do not build");
    Ok(target_folder.join(host).join("release"))
}

/// The platform that the compiler builds for.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc -vV names no host")
}

/// Does `work` for each, as many at once as there are processors; the first thing that went wrong.
fn at_once(targets: &[&str], work: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<()> {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(target)?;
        }
        Ok(())
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })
}

fn fuzz(folder: &Path, program: &Path, target: &str, seconds: u32) -> Result<()> {
    let made = |kind: &str| -> Result<PathBuf> {
        let path = folder.join(kind).join(target);
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let (corpus, artifacts) = (made("corpus")?, made("artifacts")?);
    let mut command = Command::new(program);
    command.arg(&corpus);
    // Inputs under version control; read, never written.
    let seeds = folder.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let output = command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-max_len=2048", "-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=1"])
        .current_dir(folder)
        .output()
        .with_context(|| format!("running {target}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{said}\n{target} found something: the input is in {}; run it again by giving the file to the program",
        artifacts.display()
    );
    // All it says is of interest when it found something.
    println!("{target}: {}", said.lines().rfind(|line| line.starts_with("Done ")).unwrap_or("done"));
    Ok(())
}

//! The daemons and tools that hosts run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// The crates whose programs and libraries hosts need.
const CRATES: [&str; 14] = [
    "irmd",
    "ipcpd-udp",
    "irm",
    "oping",
    "operf",
    "flowcat",
    "flowtop",
    "flowdump",
    "portfwd",
    "tcpstripe",
    "gameproxy",
    "rendezvous",
    "libflow-capi",
    "libflow",
];
/// The programs among what they build.
const PROGRAMS: [&str; 19] = [
    "irmd",
    "ipcpd-udp",
    "irm",
    "oping",
    "operf",
    "flowcat",
    "flowtop",
    "flowdump",
    "portfwd",
    "tcpstripe",
    "gameproxy",
    "rendezvous",
    "examples/echo_server",
    "examples/forward-load",
    "examples/game-load",
    "examples/rendezvous-load",
    "examples/echo_client",
    "examples/word_server",
    "examples/word_client",
];

/// Where they are, once [`prepare`] found them.
pub fn folder() -> Option<&'static Path> {
    FOLDER.get().map(PathBuf::as_path)
}

/// What is built, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Build<'a> {
    /// Cargo's progress goes to standard error; else only its errors do.
    pub show: bool,
    /// Optimised, whatever this program is; else as this program.
    pub release: bool,
    /// Further crates whose programs are wanted.
    pub also: &'a [&'a str],
}

/// Finds the programs: in `$FLOWRING_BIN_DIR`, else built by cargo into the folder that this program was built into (a
/// second or less when they are there already). Once per process, before [`enter`](crate::enter()).
pub fn prepare(build: Build<'_>) -> Result<&'static Path> {
    if let Some(folder) = FOLDER.get() {
        return Ok(folder);
    }
    let folder = match std::env::var_os("FLOWRING_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => run_cargo(build)?,
    };
    for program in PROGRAMS {
        if !folder.join(program).is_file() {
            bail!(
                "{program} is not in {}; set FLOWRING_BIN_DIR to where it is, or unset it to build",
                folder.display()
            );
        }
    }
    Ok(FOLDER.get_or_init(|| folder))
}

/// cargo, as a shell starts it: without what cargo told this program of its own package. Build scripts of dependencies ask for
/// that (ring's), and would run, and with them all that depends on them be built, anew each time.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(|name| is_of_a_package(name))
    {
        command.env_remove(name);
    }
    command
}

fn is_of_a_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"]
        .iter()
        .any(|of_a_package| name.starts_with(of_a_package))
}

fn run_cargo(build: Build<'_>) -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let own_folder = own
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .with_context(|| format!("{} lies in no folder", own.display()))?;
    let profile = match own_folder.file_name().and_then(|name| name.to_str()) {
        Some("release") => "release",
        Some("debug") if build.release => "release",
        Some("debug") => "debug",
        _ => bail!("{} is neither target/debug nor target/release; set FLOWRING_BIN_DIR", own_folder.display()),
    };
    let target = own_folder.parent().context("a target folder")?;
    let mut command = cargo();
    command.args(["build", "--lib", "--bins", "--examples", "--target-dir"]).arg(target);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    for name in CRATES.into_iter().chain(build.also.iter().copied()) {
        command.args(["-p", name]);
    }
    if profile == "release" {
        command.arg("--release");
    }
    let (worked, error) = if build.show {
        (command.status().context("cargo")?.success(), String::new())
    } else {
        let output = command.arg("--quiet").output().context("cargo")?;
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    if !worked {
        bail!("cargo could not build the daemons and tools\n{error}");
    }
    Ok(target.join(profile))
}

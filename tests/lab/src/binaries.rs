//! The daemons and tools that hosts run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// The crates whose programs and libraries hosts need.
const CRATES: [&str; 7] = ["irmd", "ipcpd-udp", "irm", "oping", "operf", "libflow-capi", "libflow"];
/// The programs among what they build.
const PROGRAMS: [&str; 7] =
    ["irmd", "ipcpd-udp", "irm", "oping", "operf", "examples/echo_server", "examples/echo_client"];

/// Where they are, once [`prepare`] found them.
pub fn folder() -> Option<&'static Path> {
    FOLDER.get().map(PathBuf::as_path)
}

/// Finds the programs: in `$FLOWRING_BIN_DIR`, else built by cargo into the folder that this program was built into (a
/// second or less when they are there already). Once per process, before [`enter`](crate::enter).
///
/// Cargo's progress goes to standard error where `show` says so, else only its errors.
pub fn prepare(show: bool) -> Result<&'static Path> {
    if let Some(folder) = FOLDER.get() {
        return Ok(folder);
    }
    let folder = match std::env::var_os("FLOWRING_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => build(show)?,
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

fn build(show: bool) -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let folder = own
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .with_context(|| format!("{} lies in no folder", own.display()))?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--lib", "--bins", "--examples"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    for name in CRATES {
        command.args(["-p", name]);
    }
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("release") => drop(command.arg("--release")),
        Some("debug") => {}
        _ => bail!("{} is neither target/debug nor target/release; set FLOWRING_BIN_DIR", folder.display()),
    }
    command.arg("--target-dir").arg(folder.parent().context("a target folder")?);
    if show {
        let status = command.status().context("cargo")?;
        if !status.success() {
            bail!("cargo could not build the daemons and tools");
        }
    } else {
        let output = command.arg("--quiet").output().context("cargo")?;
        if !output.status.success() {
            bail!("cargo could not build the daemons and tools:\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(folder.to_path_buf())
}

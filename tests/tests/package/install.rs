//! The Debian package: installed into a root of its own for each of two hosts, started as its units say, used, removed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::cases;
use flowring_tests::harness::{self, Case, Needs, lacks};
use flowring_tests::net::SOON;
use lab::{Host, Lab, Output, Running, wait_until};

/// The package; or why there is none.
static PACKAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();

pub(crate) fn main() -> ExitCode {
    // Before the namespaces are entered: cargo wants its own world.
    if !std::env::args().any(|word| word == "--list") {
        let _ = PACKAGE.set(build().map_err(|error| format!("{error:#}")));
    }
    let mut cases: Vec<Case> = cases![programs ["dpkg"]: two_hosts_with_the_package_talk_and_lose_it_again];
    cases.extend(cases![programs ["lintian"]: lintian_finds_no_error]);
    harness::main(Needs::Hosts, cases)
}

fn build() -> Result<PathBuf> {
    let folder = std::env::current_exe()?.parent().and_then(Path::parent).context("the target folder")?.join("deb");
    let mut cargo = lab::binaries::cargo();
    cargo.args(["run", "--quiet", "-p", "xtask", "--", "deb", "--debug", "--out"]).arg(&folder);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().context("cargo")?;
    ensure!(output.status.success(), "no package: {}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn package() -> Result<&'static Path> {
    match PACKAGE.get() {
        Some(Ok(path)) => Ok(path),
        Some(Err(why)) => bail!("{why}"),
        None => bail!("the package was not built"),
    }
}

/// A host's root: what the package puts there, and of the machine's own no more than a shell and its libraries.
struct Root {
    path: PathBuf,
    host: Host,
}

impl Root {
    fn new(host: &Host) -> Result<Self> {
        let path = host.run_dir().join("root");
        for folder in
            ["bin", "lib", "lib64", "dev", "etc", "usr", "run", "tmp", "var/lib/dpkg/info", "var/lib/dpkg/updates"]
        {
            std::fs::create_dir_all(path.join(folder))?;
        }
        for file in ["dev/null", "var/lib/dpkg/status", "var/lib/dpkg/available"] {
            std::fs::write(path.join(file), "")?;
        }
        for (from, to) in [("/usr/bin", "bin"), ("/usr/lib", "lib"), ("/usr/lib64", "lib64"), ("/dev/null", "dev/null")]
        {
            if Path::new(from).exists() {
                done(Command::new("mount").args(["--bind", from]).arg(path.join(to)))?;
            }
        }
        Ok(Self { path, host: host.clone() })
    }

    fn dpkg(&self, words: &[&str]) -> Result<String> {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.path.display())).args(["--force-depends", "--log=/dev/null"]).args(words);
        let output = dpkg.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "dpkg {words:?}: {said}");
        Ok(said)
    }

    fn start(&self, words: &[&str]) -> Result<Running> {
        let root = self.path.to_str().context("utf-8")?;
        let own = ["-u", "FLOWRING_RUN_DIR", "chroot", root];
        self.host.start("env", &[&own, words].concat())
    }

    fn run(&self, words: &[&str]) -> Result<Output> {
        self.start(words)?.wait(SOON)
    }

    fn irm(&self, words: &[&str]) -> Result<String> {
        let output = self.run(&[&["/usr/bin/irm"], words].concat())?;
        ensure!(output.code() == 0, "irm {words:?}: {output:?}");
        Ok(output.out)
    }

    /// Starts a unit as systemd would: the words of its ExecStart, in the folders it asks for.
    fn start_unit(&self, unit: &str, instance: &str) -> Result<Running> {
        let text = std::fs::read_to_string(self.path.join("usr/lib/systemd/system").join(unit))?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        for (key, above) in [("RuntimeDirectory", "run"), ("StateDirectory", "var/lib")] {
            let folder = self.path.join(above).join(value(key).context("a folder")?);
            std::fs::create_dir_all(folder)?;
        }
        let line = value("ExecStart").with_context(|| format!("{unit} starts nothing"))?.replace("%i", instance);
        self.start(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Files of the package that are there.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for top in ["usr", "etc", "var/lib/flowring"] {
            walk(&self.path.join(top), &mut files)?;
        }
        Ok(files)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for folder in ["bin", "lib", "lib64", "dev/null"] {
            let _ = Command::new("umount").args(["-l"]).arg(self.path.join(folder)).output();
        }
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn two_hosts_with_the_package_talk_and_lose_it_again() -> Result<()> {
    let package = package()?.to_str().context("utf-8")?;
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let roots = [Root::new(&a)?, Root::new(&b)?];
    let mut daemons = Vec::new();
    for root in &roots {
        root.dpkg(&["-i", package])?;
        let said = root.run(&["/usr/bin/irm", "--version"])?.out;
        ensure!(said.trim() == concat!("irm ", env!("CARGO_PKG_VERSION")), "{said}");
        for file in [
            "usr/share/man/man1/irm-flow-list.1.gz",
            "usr/share/man/man8/irmd.8.gz",
            "usr/include/flowring.h",
            "usr/share/man/man7/flowring.7.gz",
            "usr/share/bash-completion/completions/irm",
            "etc/flowring/irmd.toml",
        ] {
            ensure!(root.path.join(file).is_file(), "{file} is not installed");
        }
        daemons.push(root.start_unit("flowring-irmd.service", "")?);
        wait_until(SOON, "irmd to serve", || root.irm(&["status"]).is_ok())?;
    }
    let [ra, rb] = &roots;
    let addresses = [a.address().to_string(), b.address().to_string()];
    // One whose IPCP irmd starts, one whose IPCP is a service of its own.
    let bootstrap = ["ipcp", "bootstrap", "--type", "udp", "--name", "udp0", "--layer", "net", "--ip"];
    let served = format!("echo={}", addresses[1]);
    ra.irm(&[&bootstrap[..], &[&addresses[0], "--host", &served]].concat())?;
    daemons.push(rb.start_unit("flowring-ipcpd-udp@.service", "udp0")?);
    wait_until(SOON, "the IPCP to attach", || rb.irm(&["ipcp", "list"]).is_ok_and(|list| list.contains("attached")))?;
    rb.irm(&[&bootstrap[..], &[&addresses[1]]].concat())?;
    let server = rb.start(&["/usr/bin/oping", "--listen", "echo"])?;
    wait_until(SOON, "the name to be served", || rb.irm(&["name", "list"]).is_ok_and(|list| list.contains("echo")))?;
    let output = ra.run(&["/usr/bin/oping", "echo", "-c", "3", "-i", "0.01"])?;
    ensure!(output.code() == 0, "{output:?}");
    drop(server);
    for root in &roots {
        root.irm(&["shutdown"])?;
        root.dpkg(&["-r", "flowring"])?;
        let left = root.files()?;
        let kept = root.path.join("etc/flowring/irmd.toml");
        ensure!(left.contains(&kept), "a file that may have been changed is gone");
        ensure!(!left.iter().any(|file| file.starts_with(root.path.join("usr"))), "left behind: {left:?}");
        root.dpkg(&["-P", "flowring"])?;
        let left = root.files()?;
        ensure!(left.is_empty(), "left behind: {left:?}");
    }
    Ok(())
}

fn lintian_finds_no_error() -> Result<()> {
    let mut lintian = Command::new("lintian");
    // Built for a test: unstripped, unoptimised.
    lintian.args(["--fail-on", "error", "--no-tag-display-limit"]).arg(package()?);
    let output = lintian.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(2) {
        ensure!(said.contains("E: "), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("E: ")).collect();
    if !output.status.success() && errors.is_empty() {
        return lacks("lintian_finds_no_error", &String::from_utf8_lossy(&output.stderr));
    }
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

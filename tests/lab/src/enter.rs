//! Into namespaces of our own, without root.
//!
//! A chain of processes, each the parent of the next:
//!
//! * *outside*: the process that called [`enter`]; waits and exits with the status of the innermost;
//! * *border*: made the user, mount, network and process namespaces; waits;
//! * *first*: process 1 of the new process namespace; reaps orphans; when it ends, the kernel kills all that is inside;
//! * *inside*: returns from [`enter`].
//!
//! Whichever dies takes the inner ones with it (`PR_SET_PDEATHSIG`), so nothing is ever left behind, whatever daemons
//! do to outlive their starter.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};

use crate::sys::{self, Side};

/// Namespaces cannot be had here; the text says why and what to do.
#[derive(Clone, Debug)]
pub struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Proof of being inside, and how others get here.
#[derive(Clone, Debug)]
pub struct Inside {
    /// This process' number outside, for `nsenter --target`.
    pub outer_pid: u32,
    /// Whether a user namespace was needed.
    pub user: bool,
}

/// Moves this process into namespaces of its own, as their root. Call it first in `main`: the process must still have one
/// thread. Set `FLOWRING_NO_NAMESPACES` to see what happens where they are refused.
pub fn enter() -> Result<Inside, Refused> {
    if std::env::var_os("FLOWRING_NO_NAMESPACES").is_some() {
        return Err(Refused("FLOWRING_NO_NAMESPACES is set".into()));
    }
    try_enter().map_err(|error| Refused(format!("{error:#}")))
}

fn try_enter() -> Result<Inside> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    ensure!(threads == 1, "the process has {threads} threads already; enter the lab first thing in main");
    let outer_proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context("/proc")?;
    let (mut news, report) = std::io::pipe().context("pipe")?;
    match sys::fork().context("fork")? {
        Side::Child => {
            drop(news);
            Ok(border(report, outer_proc))
        }
        Side::Parent(child) => {
            drop((report, outer_proc));
            let mut refusal = String::new();
            news.read_to_string(&mut refusal)?;
            if refusal.is_empty() {
                sys::ignore_interrupts();
                std::process::exit(sys::wait_for(child));
            }
            sys::wait_for(child);
            bail!("{refusal}")
        }
    }
}

/// Goes on with what `result` holds, or tells the outside process why not and ends this one.
fn or_report<T>(result: Result<T>, report: &mut std::io::PipeWriter) -> T {
    result.unwrap_or_else(|error| {
        // Nobody reads it only if the outside is gone, and then nobody is there to tell.
        let _ = report.write_all(format!("{error:#}").as_bytes());
        std::process::exit(1)
    })
}

fn border(mut report: std::io::PipeWriter, outer_proc: OwnedFd) -> Inside {
    let user = or_report(unshare(), &mut report);
    match or_report(sys::fork().context("fork"), &mut report) {
        Side::Child => first(report, outer_proc, user),
        Side::Parent(child) => {
            drop((report, outer_proc));
            sys::ignore_interrupts();
            std::process::exit(sys::wait_for(child))
        }
    }
}

fn first(mut report: std::io::PipeWriter, outer_proc: OwnedFd, user: bool) -> Inside {
    or_report(sys::die_with_parent().context("prctl"), &mut report);
    or_report(mounts(), &mut report);
    match or_report(sys::fork().context("fork"), &mut report) {
        Side::Child => {
            let outer_pid = or_report(number_in(&outer_proc), &mut report);
            or_report(crate::net::probe(), &mut report);
            Inside { outer_pid, user }
        }
        Side::Parent(child) => {
            drop((report, outer_proc));
            sys::ignore_interrupts();
            std::process::exit(sys::wait_for(child))
        }
    }
}

/// Root tries without a user namespace, which would leave it one user only; anyone else needs one. Says whether
/// it took one.
fn unshare() -> Result<bool> {
    const KINDS: libc::c_int = libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    let plain = rustix::process::geteuid().is_root() && sys::unshare(KINDS).is_ok();
    if !plain {
        // Read before: inside, they are 65534.
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        sys::unshare(KINDS | libc::CLONE_NEWUSER).context(
            "this machine refuses user namespaces (sysctl user.max_user_namespaces, \
             kernel.apparmor_restrict_unprivileged_userns, or a container's seccomp profile)",
        )?;
        let write = |file: &str, text: String| std::fs::write(file, text).with_context(|| file.to_owned());
        write("/proc/self/setgroups", "deny".into())?;
        write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    // After the change of credentials, which clears it.
    sys::die_with_parent()?;
    Ok(!plain)
}

/// Mounts of our own: a folder that is gone with them, a /proc that shows the new process namespace, where daemons look callers up.
fn mounts() -> Result<()> {
    sys::mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE).context("making mounts private")?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // Not being able to is no failure: run directories are then under /tmp, and stay there when all is killed.
    if sys::mount(c"lab", c"/dev/shm", c"tmpfs", flags).is_ok() {
        // Set once: a process enters once.
        let _ = PRIVATE.set("/dev/shm");
    }
    sys::mount(c"proc", c"/proc", c"proc", flags | libc::MS_NOEXEC)
        .context("mounting /proc (a container with a masked /proc refuses it)")
}

static PRIVATE: OnceLock<&str> = OnceLock::new();

/// A folder for files that are to be gone with the lab, however it ends: memory that only the inside sees.
pub(crate) fn folder() -> &'static Path {
    Path::new(PRIVATE.get().unwrap_or(&"/tmp"))
}

/// This process' number where `proc` was mounted.
fn number_in(proc: &OwnedFd) -> Result<u32> {
    let link = rustix::fs::readlinkat(proc, "self", Vec::new()).context("/proc/self outside")?;
    link.to_str().ok().and_then(|text| text.parse().ok()).context("/proc/self outside is no number")
}

impl Inside {
    /// The words before a command that run it at `host`, typed in another terminal.
    pub fn words_to_enter(&self, host: &crate::Host) -> String {
        let target = self.outer_pid;
        let user = if self.user { " --user --preserve-credentials" } else { "" };
        let net = host.namespace_number().map(|fd| format!(" --net=/proc/{target}/fd/{fd}")).unwrap_or_default();
        format!("nsenter --target {target}{user} --mount --pid{net}")
    }
}

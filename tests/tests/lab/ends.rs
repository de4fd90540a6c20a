//! Whatever way the process of a lab ends, nothing of the lab is left.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use lab::{Lab, Link, Middlebox, Running, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_lab_ends_with_its_process_killed,
        a_lab_ends_with_its_process_interrupted,
        a_lab_ends_with_its_process_panicking,
    ]
}

const SOON: Duration = Duration::from_secs(10);
const ROLE: &str = "FLOWRING_LAB_VICTIM";

/// This program in another role: it makes a lab with all there is, and says so. None if it is not to.
pub(crate) fn victim() -> Option<ExitCode> {
    std::env::var_os(ROLE)?;
    let lived = live();
    eprintln!("the victim: {lived:?}");
    Some(ExitCode::FAILURE)
}

fn live() -> Result<()> {
    let inside = lab::enter()?;
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let c = lab.host_behind("c", Middlebox::Open)?;
    a.link().set(Link { delay: Duration::from_millis(1), ..Link::CLEAN })?;
    let _endless = b.start("cat", &[] as &[&str])?;
    // How others enter c: its process and descriptor as they see them.
    println!("up {} {}", inside.words_to_enter(&c), c.run_dir().display());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    panic!("told to");
}

/// A victim, and the other end of a cable into a host of its lab: it is there as long as the host's network is.
fn started(cable: &str) -> Result<Running> {
    // Whoever is started in the background by a shell ignores SIGINT, and so would all that it starts.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(std::env::current_exe()?).env(ROLE, "yes").process_group(0);
    let running = Running::start("victim", command)?;
    let words = running.expect_line(SOON, "up nsenter")?;
    let net = words.split(' ').find_map(|word| word.strip_prefix("--net=")).context("--net=")?;
    let output = Command::new("ip")
        .args(["link", "add", cable, "type", "veth", "peer", "name", "cable", "netns", net])
        .output()
        .context("ip")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(is_there(cable), "the cable is not there");
    Ok(running)
}

fn is_there(cable: &str) -> bool {
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    devices.lines().any(|line| line.trim_start().starts_with(&format!("{cable}:")))
}

fn ends(cable: &str, end: impl FnOnce(&mut Running) -> Result<()>) -> Result<()> {
    let mut victim = started(cable)?;
    let up = victim.expect_line(SOON, "up nsenter")?;
    let run_dir = up.split(' ').next_back().context("a run directory")?;
    end(&mut victim)?;
    victim.wait(SOON)?;
    ensure!(!std::path::Path::new(run_dir).exists(), "{run_dir} is still there");
    // The kernel takes networks down a moment after their last user.
    wait_until(SOON, "the networks of the lab to be gone", || !is_there(cable))
}

fn a_lab_ends_with_its_process_killed() -> Result<()> {
    ends("killed", Running::kill)
}

fn a_lab_ends_with_its_process_interrupted() -> Result<()> {
    // As Ctrl-C does it: the whole group hears it.
    ends("interrupted", |victim| {
        let group = Pid::from_raw(victim.pid().cast_signed()).context("a pid")?;
        Ok(kill_process_group(group, Signal::INT)?)
    })
}

fn a_lab_ends_with_its_process_panicking() -> Result<()> {
    ends("panicking", |victim| {
        drop(victim.input());
        Ok(())
    })
}

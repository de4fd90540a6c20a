//! Plain Linux networks, made through `ip` and `nft`, so that what a test built can be looked at with the same commands.

use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::sys;

/// A network namespace; it lives as long as somebody holds it, or a process, socket or device is in it.
pub(crate) type Namespace = Arc<OwnedFd>;

pub(crate) fn new_namespace(what: &str) -> Result<Namespace> {
    sys::new_net().map(Arc::new).with_context(|| format!("a network namespace for {what}"))
}

/// Where others, `ip` among them, find it.
pub(crate) fn path(namespace: &Namespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

/// Whether what a lab is made of can be made: `ip`, bridges, veth pairs.
pub(crate) fn probe() -> Result<()> {
    let here = Arc::new(OwnedFd::from(std::fs::File::open("/proc/self/ns/net")?));
    ip(&here, &["link set lo up", "link add probe type bridge", "link add probe0 type veth peer name probe1"])
        .context("this machine cannot make virtual networks")?;
    ip(&here, &["link delete probe", "link delete probe0"])
}

/// Runs lines of `ip` in a namespace.
pub(crate) fn ip<S: AsRef<str>>(namespace: &Namespace, lines: &[S]) -> Result<()> {
    let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
    feed(namespace, "ip", &["-batch", "-"], &lines.join("\n"), "iproute2")
        .with_context(|| format!("ip {}", lines.join("; ")))
}

/// What `ip` says of a device of a namespace, in one line and with details.
pub(crate) fn ip_says(namespace: &Namespace, device: &str) -> Result<String> {
    let mut command = program("ip");
    command.args(["-oneline", "-details", "link", "show", device]);
    sys::prepare(&mut command, Some(namespace.clone()), false);
    Ok(String::from_utf8_lossy(&command.output().context("`ip` cannot be started")?.stdout).into_owned())
}

/// Gives rules to the `nft` of a namespace.
pub(crate) fn nft(namespace: &Namespace, rules: &str) -> Result<()> {
    feed(namespace, "nft", &["-f", "-"], rules, "nftables")
}

/// A program that is not in the path of an ordinary user everywhere.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin");
    command
}

fn feed(namespace: &Namespace, program: &str, args: &[&str], text: &str, package: &str) -> Result<()> {
    let mut command = self::program(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    sys::prepare(&mut command, Some(namespace.clone()), false);
    let mut child =
        command.spawn().with_context(|| format!("`{program}` cannot be started: install the package {package}"))?;
    let mut input = child.stdin.take().context("its standard input")?;
    input.write_all(format!("{text}\n").as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} refused: {}", error.trim());
    Ok(())
}

/// Runs `work` on a thread that is in `namespace`: sockets it opens stay there, wherever they go then.
pub(crate) fn inside<T: Send>(namespace: Option<&Namespace>, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("in a namespace".into()).spawn_scoped(scope, || {
            if let Some(namespace) = namespace {
                sys::enter_net(namespace.as_fd()).context("entering the host's network")?;
            }
            Ok(work())
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Writes settings below `/proc/sys/net` in a namespace.
pub(crate) fn settings(namespace: &Namespace, settings: &[(&str, &str)]) -> Result<()> {
    inside(Some(namespace), || {
        for (name, value) in settings {
            let file = format!("/proc/sys/net/{name}");
            std::fs::write(&file, value).with_context(|| format!("writing {value} to {file}"))?;
        }
        Ok(())
    })?
}

/// What a bridge passes on is no business of the rules of its namespace. Where there is no such setting, it never is.
pub(crate) fn keep_rules_off_bridges(namespace: &Namespace) -> Result<()> {
    inside(Some(namespace), || {
        for family in ["iptables", "ip6tables", "arptables"] {
            let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), "0");
        }
    })
}

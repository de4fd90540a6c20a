//! Networks: a bridge in a namespace of its own, a veth pair to each host.
//!
//! Everything here is plain Linux through `ip`, so that what a test built can be looked at with the same command.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::sys;

/// A bridge that hosts are attached to.
pub(crate) struct Switch {
    namespace: Arc<OwnedFd>,
}

impl Switch {
    pub(crate) fn new() -> Result<Self> {
        let namespace = Arc::new(sys::new_net().context("a network namespace for the switch")?);
        // No snooping: neighbour discovery must work before anybody joined a group.
        ip(&namespace, &["link add sw type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set sw up"])?;
        Ok(Self { namespace })
    }

    /// A new host's network namespace with `eth0` on this switch.
    pub(crate) fn attach(&self, number: u8, addresses: &[IpAddr]) -> Result<Arc<OwnedFd>> {
        let host = Arc::new(sys::new_net().context("a network namespace for a host")?);
        let path = format!("/proc/{}/fd/{}", std::process::id(), host.as_raw_fd());
        let port = format!("port{number}");
        ip(
            &self.namespace,
            &[
                &format!("link add {port} type veth peer name eth0 netns {path}"),
                &format!("link set {port} master sw txqueuelen 10000 up"),
            ],
        )?;
        let mut lines = vec!["link set lo up".to_owned(), "link set eth0 txqueuelen 10000 up".to_owned()];
        for address in addresses {
            lines.push(match address {
                IpAddr::V4(v4) => format!("address add {v4}/24 dev eth0"),
                // Without duplicate detection it can be bound at once.
                IpAddr::V6(v6) => format!("address add {v6}/64 dev eth0 nodad"),
            });
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        ip(&host, &lines)?;
        Ok(host)
    }
}

/// Whether what a lab is made of can be made: `ip`, bridges, veth pairs.
pub(crate) fn probe() -> Result<()> {
    let here = Arc::new(OwnedFd::from(std::fs::File::open("/proc/self/ns/net")?));
    ip(&here, &["link set lo up", "link add probe type bridge", "link add probe0 type veth peer name probe1"])
        .context("this machine cannot make virtual networks")?;
    ip(&here, &["link delete probe", "link delete probe0"])
}

/// Runs lines of `ip` in a namespace.
fn ip(namespace: &Arc<OwnedFd>, lines: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    sys::prepare(&mut command, Some(namespace.clone()), false);
    let mut child = command.spawn().context("`ip` is not to be found: install iproute2")?;
    let mut input = child.stdin.take().context("stdin of ip")?;
    input.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", lines.join("; "), error.trim());
    Ok(())
}

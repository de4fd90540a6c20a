//! Hosts that go away without a word, or come back as somebody else.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, ipcp};
use lab::{Middlebox, Signal};
use libflow::blocking::{Flow, Stack};
use libflow::{EndReason, FlowError, Qos};
use rustix::process::{Pid, kill_process};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases![a_host_that_vanished_is_noticed_at_both_ends, a_host_that_rebooted_is_noticed];
    cases.extend(cases![middleboxes: a_server_that_ends_is_told_to_its_client_behind_a_nat]);
    cases
}

/// A flow whose ends wait two seconds for a silent peer.
fn flow(net: &Net) -> Result<(Flow, Flow)> {
    let listener = Stack::find(Some(net.b.run_dir()))?.listen("echo").wait()?;
    let asking = Stack::find(Some(net.a.run_dir()))?;
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| listener.accept_within(SOON));
        let qos = Qos { timeout_ms: 2_000, ..Qos::raw() };
        let asked = asking.alloc("echo").qos(qos).timeout(SOON).wait()?;
        Ok((asked, accepted.join().expect("no panic")?))
    })
}

/// Waits for the end of a flow on which nothing comes.
fn end(flow: &Flow) -> Result<EndReason> {
    match flow.recv_within(&mut [0; 64], SOON) {
        Err(FlowError::Gone(reason)) => Ok(reason),
        other => anyhow::bail!("not over: {other:?}"),
    }
}

fn a_host_that_vanished_is_noticed_at_both_ends() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let (asked, accepted) = flow(&net)?;
    net.a.link().cut()?;
    for (flow, at) in [(&asked, "the asking end"), (&accepted, "the accepting end")] {
        let reason = end(flow).context(at)?;
        ensure!(reason == EndReason::PeerTimedOut, "{at}: {reason}");
    }
    drop((asked, accepted));
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0)?;
    // It is back: so are flows to it.
    net.a.link().restore()?;
    flow(&net).map(drop)
}

/// Power off: every process at once, and what only lasts until a reboot.
fn power_off(net: &mut Net, server: &mut lab::Running) -> Result<()> {
    let pid = ipcp(&net.b)?["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("a pid")?;
    net.irmd_b.process().kill()?;
    kill_process(pid, Signal::KILL)?;
    server.kill()?;
    let ended = net.irmd_b.process().wait(SOON)?;
    ensure!(ended.status.signal() == Some(9), "{ended:?}");
    for entry in std::fs::read_dir(net.b.run_dir())? {
        let path = entry?.path();
        // The host is still who it was: state is kept over reboots, sockets are not.
        if !path.is_dir() {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn a_host_that_rebooted_is_noticed() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    let mut server = net.b.serve("echo")?;
    let asking = Stack::find(Some(net.a.run_dir()))?;
    let flow = asking.alloc("echo").timeout(SOON).wait()?;
    power_off(&mut net, &mut server)?;
    net.irmd_b = net.b.irmd().start()?;
    lab::wait_until(SOON, "its layer", || ipcp(&net.b).is_ok_and(|row| row["state"] == "operational"))?;
    // Its port is closed, which alone proves nothing; the shim that runs there now knows of no such flow.
    flow.send(b"anybody there?")?;
    let reason = end(&flow)?;
    ensure!(reason == EndReason::PeerUnknown, "{reason}");
    await_flows(&net.a, 0).map(drop)
}

fn a_server_that_ends_is_told_to_its_client_behind_a_nat() -> Result<()> {
    for kind in [Middlebox::PortRestricted, Middlebox::SymmetricRandom, Middlebox::CarrierOverSymmetric] {
        let lab = lab::Lab::new()?;
        let [server] = lab.hosts(["server"])?;
        let client = lab.host_behind("client", kind)?;
        let net = Net::of(lab, client, server)?;
        net.a.bootstrap(&[("echo", &net.b)])?;
        net.b.bootstrap(&[])?;
        let mut server = net.b.serve("echo")?;
        let asking = Stack::find(Some(net.a.run_dir()))?;
        let flow = asking.alloc("echo").timeout(SOON).wait()?;
        server.kill()?;
        let reason = end(&flow).with_context(|| format!("behind {kind}"))?;
        ensure!(reason == EndReason::PeerDied, "behind {kind}: {reason}");
    }
    Ok(())
}

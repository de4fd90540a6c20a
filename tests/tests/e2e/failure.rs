//! What dies, and who says so how soon.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{AT_ONCE, Net, SOON, await_flows, ipcp, timed};
use lab::wait_until;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_killed_server_is_told_to_its_client_at_once,
        a_killed_client_leaves_no_flow_behind,
        a_killed_ipcpd_is_noticed_restarted_and_listed_truthfully,
        a_killed_ipcpd_that_is_not_to_be_restarted_is_listed_as_down,
        flows_go_on_while_ipcpd_is_killed,
        flows_go_on_while_irmd_is_killed,
        tools_say_at_once_that_irmd_is_stopped,
        an_administrator_ends_a_flow_on_both_hosts,
    ]
}

fn kill(pid: &serde_json::Value) -> Result<()> {
    let pid = pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).context("a pid")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

fn a_killed_server_is_told_to_its_client_at_once() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let mut server = net.b.serve("echo")?;
    // One SDU, then a long pause: it is the waiting read that must end.
    let mut client = net.a.start("oping", &["echo", "-i", "60"])?;
    client.expect_line(SOON, "seq=")?;
    server.kill()?;
    let (output, took) = timed(|| client.wait(SOON));
    let output = output?;
    ensure!(took < AT_ONCE, "it took {took:?}: {output:?}");
    ensure!(output.code() == 1, "{output:?}");
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0).map(drop)
}

fn a_killed_client_leaves_no_flow_behind() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "60"])?;
    client.expect_line(SOON, "seq=")?;
    await_flows(&net.b, 1)?;
    client.kill()?;
    let (rows, took) = timed(|| await_flows(&net.b, 0));
    rows?;
    ensure!(took < AT_ONCE, "it took {took:?}");
    await_flows(&net.a, 0).map(drop)
}

fn a_killed_ipcpd_is_noticed_restarted_and_listed_truthfully() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let before = ipcp(&net.b)?;
    assert_eq!((&before["state"], &before["restarts"]), (&"operational".into(), &0.into()));
    assert_eq!(before["address"], "10.0.0.2:3359");
    kill(&before["pid"])?;
    let mut after = before.clone();
    wait_until(SOON, "the IPCP to be back", || {
        after = ipcp(&net.b).unwrap_or_default();
        after["restarts"] == 1 && after["state"] == "operational"
    })?;
    ensure!(after["pid"] != before["pid"] && after["last_end"].as_str().is_some(), "{after}");
    // Registered again, without anybody's doing.
    let output = net.a.run("oping", &["echo", "-c", "1"])?;
    ensure!(output.code() == 0, "{output:?}");
    Ok(())
}

fn a_killed_ipcpd_that_is_not_to_be_restarted_is_listed_as_down() -> Result<()> {
    let net = Net::bare()?;
    net.a.bootstrap_with(&[("echo", &net.b)], &["--no-restart"])?;
    kill(&ipcp(&net.a)?["pid"])?;
    wait_until(SOON, "the IPCP to be down", || ipcp(&net.a).is_ok_and(|row| row["state"] == "down"))?;
    let (output, took) = timed(|| net.a.run("oping", &["echo", "-c", "1"]));
    let output = output?;
    ensure!(output.code() == 2 && took < AT_ONCE, "after {took:?}: {output:?}");
    ensure!(output.err.contains("udp0") || output.err.contains("IPCP"), "{output:?}");
    // It can be made again.
    net.a.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    net.a.bootstrap(&[("echo", &net.b)])?;
    assert_eq!(ipcp(&net.a)?["state"], "operational");
    Ok(())
}

fn flows_go_on_while_ipcpd_is_killed() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=")?;
    let flow = await_flows(&net.b, 1)?.remove(0);
    kill(&ipcp(&net.a)?["pid"])?;
    kill(&ipcp(&net.b)?["pid"])?;
    for host in [&net.a, &net.b] {
        wait_until(SOON, "the IPCP to be back", || {
            ipcp(host).is_ok_and(|row| row["restarts"] == 1 && row["state"] == "operational")
        })?;
    }
    // Handed back: listed as the flow it was.
    let again = await_flows(&net.b, 1)?.remove(0);
    await_flows(&net.a, 1)?;
    for key in ["id", "name", "local_address", "peer_address", "process"] {
        assert_eq!(flow[key], again[key], "{key}");
    }
    client.signal(Signal::INT)?;
    let output = client.wait(SOON)?;
    ensure!(output.code() == 0, "{output:?}");
    ensure!(output.out.contains("0% packet loss") || output.out.contains(" 0%"), "SDUs were lost: {}", output.out);
    // And its end is told as that of any other.
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0).map(drop)
}

fn flows_go_on_while_irmd_is_killed() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=3")?;
    net.irmd_a.process().kill()?;
    net.irmd_b.process().kill()?;
    net.irmd_a = net.a.irmd().start()?;
    net.irmd_b = net.b.irmd().start()?;
    // The IPCPs attach again, the server serves its name again.
    await_flows(&net.a, 1)?;
    await_flows(&net.b, 1)?;
    wait_until(SOON, "the name to be served again", || net.b.accepting("echo").is_ok_and(|n| n > 0))?;
    let output = net.a.run("oping", &["echo", "-c", "1"])?;
    ensure!(output.code() == 0, "{output:?}");
    client.signal(Signal::INT)?;
    ensure!(client.wait(SOON)?.code() == 0, "the old flow broke");
    Ok(())
}

fn tools_say_at_once_that_irmd_is_stopped() -> Result<()> {
    let mut net = Net::bare()?;
    net.irmd_a.stop()?;
    let socket = net.a.run_dir().join("irmd.sock");
    let socket = socket.to_str().context("a path in UTF-8")?;
    for (tool, args) in [("irm", vec!["status"]), ("oping", vec!["echo"]), ("operf", vec!["echo"])] {
        let (output, took) = timed(|| net.a.run(tool, &args));
        let output = output?;
        ensure!(took < AT_ONCE && output.code() == 2, "{tool} took {took:?}: {output:?}");
        ensure!(output.err.contains(socket), "{tool} does not name {socket}: {}", output.err);
        ensure!(output.err.contains("irmd --run-dir"), "{tool} does not say how to start irmd: {}", output.err);
    }
    Ok(())
}

fn an_administrator_ends_a_flow_on_both_hosts() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "60"])?;
    client.expect_line(SOON, "seq=")?;
    let id = await_flows(&net.b, 1)?.remove(0)["id"].to_string();
    net.b.irm(&["flow", "dealloc", &id])?;
    let output = client.wait(SOON)?;
    ensure!(output.code() == 1, "{output:?}");
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0).map(drop)
}

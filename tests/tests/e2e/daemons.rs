//! Daemons and tools as an administrator meets them.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, ipcp};
use lab::Lab;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_second_irmd_on_the_same_directory_says_so,
        a_stale_socket_is_taken_over,
        a_port_in_use_is_named,
        an_address_of_another_host_is_named,
        what_was_made_at_run_time_survives_a_restart,
        an_exported_configuration_makes_the_same_host,
        an_ipcpd_started_by_hand_attaches,
        an_orderly_stop_leaves_nothing_running,
        every_listing_is_json_too,
        completions_exist_for_every_tool,
        a_wrong_configuration_is_refused_with_its_line,
    ]
}

fn a_second_irmd_on_the_same_directory_says_so() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let mut first = a.irmd().start()?;
    let output = a.start("irmd", &[] as &[&str])?.wait(SOON)?;
    ensure!(output.code() == 1 && output.err.contains("already runs"), "{output:?}");
    ensure!(output.err.contains(&first.process().pid().to_string()), "it does not name the other: {}", output.err);
    a.irm(&["status"]).map(drop)
}

fn a_stale_socket_is_taken_over() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let mut first = a.irmd().start()?;
    first.process().kill()?;
    ensure!(a.run_dir().join("irmd.sock").exists(), "no socket is left to be stale");
    let _second = a.irmd().start()?;
    a.irm(&["status"]).map(drop)
}

fn a_port_in_use_is_named() -> Result<()> {
    let net = Net::bare()?;
    let taken = net.a.socket(3359)?;
    let error = net.a.bootstrap(&[]).unwrap_err().to_string();
    ensure!(error.contains("port 3359 of 10.0.0.1 is in use"), "{error}");
    drop(taken);
    // A process that another test starts meanwhile may hold the closed socket, and so its port, for a moment.
    lab::wait_until(SOON, "the port to be free", || net.a.bootstrap(&[]).is_ok())
}

fn an_address_of_another_host_is_named() -> Result<()> {
    let net = Net::bare()?;
    let words = ["ipcp", "bootstrap", "--type", "udp", "--name", "udp0", "--layer", "net", "--ip", "10.0.0.2"];
    let error = net.a.irm(&words).unwrap_err().to_string();
    ensure!(error.contains("10.0.0.2") && error.contains("not an address of this host"), "{error}");
    Ok(())
}

fn what_was_made_at_run_time_survives_a_restart() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    net.a.irm(&["name", "create", "kept", "--policy", "spill"])?;
    net.a.irm(&["name", "register", "kept", "--layer", "net"])?;
    net.a.irm(&["bind", "program", "/bin/true", "--name", "kept", "--", "-x"])?;
    let before = net.a.irm(&["config", "export"])?;
    net.irmd_a.stop()?;
    net.irmd_a = net.a.irmd().start()?;
    lab::wait_until(SOON, "the IPCP to be back", || ipcp(&net.a).is_ok_and(|row| row["state"] == "operational"))?;
    assert_eq!(net.a.irm(&["config", "export"])?, before);
    let _server = net.b.serve("echo")?;
    let output = net.a.run("oping", &["echo", "-c", "1"])?;
    ensure!(output.code() == 0, "{output:?}");
    Ok(())
}

fn an_exported_configuration_makes_the_same_host() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    net.a.irm(&["name", "create", "made"])?;
    let exported = net.a.irm(&["config", "export"])?;
    net.irmd_a.stop()?;
    let file = net.a.run_dir().join("exported.toml");
    std::fs::write(&file, &exported)?;
    let state = net.a.run_dir().join("fresh-state");
    let args = ["--config", file.to_str().context("utf-8")?, "--state-dir", state.to_str().context("utf-8")?];
    net.irmd_a = net.a.irmd().args(&args).start()?;
    lab::wait_until(SOON, "the IPCP to be there", || ipcp(&net.a).is_ok_and(|row| row["state"] == "operational"))?;
    assert_eq!(net.a.irm(&["config", "export"])?, exported);
    Ok(())
}

fn an_ipcpd_started_by_hand_attaches() -> Result<()> {
    let net = Net::bare()?;
    net.b.bootstrap(&[])?;
    let _server = net.b.serve("echo")?;
    let words = ["--name", "udp0", "--layer", "net", "--ip", "10.0.0.1", "--host", "echo=10.0.0.2"];
    let mut by_hand = net.a.start("ipcpd-udp", &words)?;
    lab::wait_until(SOON, "it to attach", || ipcp(&net.a).is_ok_and(|row| row["state"] == "operational"))?;
    assert_eq!(ipcp(&net.a)?["pid"], by_hand.pid());
    let output = net.a.run("oping", &["echo", "-c", "1"])?;
    ensure!(output.code() == 0, "{output:?}");
    by_hand.kill()?;
    lab::wait_until(SOON, "its end to be seen", || {
        net.a.list("ipcp list").is_ok_and(|rows| rows.iter().all(|row| row["state"] == "down"))
    })
}

fn an_orderly_stop_leaves_nothing_running() -> Result<()> {
    let mut net = Net::up(&[])?;
    let pid = ipcp(&net.a)?["pid"].to_string();
    let output = net.irmd_a.stop()?;
    ensure!(output.code() == 0, "{output:?}");
    ensure!(!std::path::Path::new("/proc").join(pid).exists(), "its IPCP still runs");
    let left: Vec<_> = std::fs::read_dir(net.a.run_dir())?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(!left.iter().any(|name| name.to_string_lossy().ends_with(".sock")), "sockets are left: {left:?}");
    Ok(())
}

fn every_listing_is_json_too() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let client = net.b.start("oping", &["echo", "-i", "60"])?;
    client.expect_line(SOON, "seq=")?;
    for listing in ["ipcp list", "name list", "flow list"] {
        let rows = net.b.list(listing)?;
        assert_eq!(rows.len(), 1, "{listing}: {rows:?}");
        let words: Vec<&str> = listing.split(' ').collect();
        ensure!(net.b.irm(&words)?.lines().count() == 2, "irm {listing} prints no head and one row");
    }
    let id = net.b.list("flow list")?[0]["id"].to_string();
    for words in [vec!["status", "--json"], vec!["flow", "show", &id, "--json"]] {
        let value: serde_json::Value = serde_json::from_str(&net.b.irm(&words)?)?;
        ensure!(value.is_object(), "{value}");
    }
    let output = net.b.run("oping", &["echo", "-c", "2", "-i", "0.01", "--json"])?;
    let summary: serde_json::Value = serde_json::from_str(&output.out).with_context(|| output.out.clone())?;
    ensure!(summary.is_object(), "{summary}");
    Ok(())
}

fn completions_exist_for_every_tool() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    for shell in ["bash", "zsh", "fish"] {
        for (tool, word) in [("irm", "completions"), ("oping", "--completions"), ("operf", "--completions")] {
            let output = a.run(tool, &[word, shell])?;
            ensure!(output.code() == 0 && output.out.contains(tool), "{tool} {shell}: {output:?}");
        }
    }
    Ok(())
}

fn a_wrong_configuration_is_refused_with_its_line() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let file = a.run_dir().join("wrong.toml");
    std::fs::write(&file, "[[name]]\nname = \"echo\"\ncolour = \"red\"\n")?;
    let output = a.start("irmd", &["--config", file.to_str().context("utf-8")?])?.wait(SOON)?;
    ensure!(output.code() == 1, "{output:?}");
    for word in ["wrong.toml", "3", "colour"] {
        ensure!(output.err.contains(word), "it does not say {word:?}: {}", output.err);
    }
    Ok(())
}

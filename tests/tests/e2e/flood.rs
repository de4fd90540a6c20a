//! Forged requests, more than anybody can serve: open flows do not notice, honest callers get theirs, nothing grows.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, ipcp};
use flowring_tests::spoof::{Forger, Forgeries};
use lab::Host;
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_flood_of_forged_requests_hurts_no_flow_and_no_honest_caller,
        a_flood_of_forged_classic_requests_leaves_extended_callers_alone,
        a_forged_request_starts_no_program,
    ]
}

/// Forged requests of one flood.
const MANY: usize = 5_000;

/// Somebody who forges, and a way out of host b for the answers.
fn flooder(net: &Net) -> Result<(Host, Forger)> {
    let c = net.another("c")?;
    let routed = net.b.run("ip", &["route", "add", "default", "via", &c.address().to_string()])?;
    ensure!(routed.code() == 0, "{routed:?}");
    let forger = Forger::at(&c)?;
    Ok((c, forger))
}

fn forgeries(net: &Net, name: &str, extended: bool) -> Result<Forgeries> {
    let std::net::SocketAddr::V4(to) = net.b.shim() else { anyhow::bail!("the lab has IPv4") };
    Forgeries::new(to, name, extended)
}

fn counter(row: &Value, name: &str) -> u64 {
    row["counters"][name].as_u64().unwrap_or(0)
}

fn a_flood_of_forged_requests_hurts_no_flow_and_no_honest_caller() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let (_c, forger) = flooder(&net)?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.02", "-c", "50"])?;
    client.expect_line(SOON, "seq=")?;
    let before = ipcp(&net.b)?;
    let mut forgeries = forgeries(&net, "echo", true)?;
    for sent in 0..MANY {
        forgeries.send(&forger)?;
        if sent % 1000 == 999 {
            let output = net.a.run("oping", &["echo", "-c", "1"])?;
            ensure!(output.code() == 0, "{output:?}");
        }
    }
    let output = client.wait(SOON)?;
    ensure!(output.code() == 0, "{output:?}");
    assert_eq!(output.out.lines().filter(|line| line.contains("seq=")).count(), 50, "{}", output.out);
    let after = ipcp(&net.b)?;
    assert_eq!((&before["pid"], &after["restarts"]), (&after["pid"], &0.into()));
    ensure!(counter(&after, "cookies_wanted") > 0, "{after}");
    // What comes before load is seen is let in: far fewer than were sent.
    let flows = after["flows"].as_u64().context("flows")?;
    ensure!(flows < MANY as u64 / 2, "{flows} flows of {MANY} forged requests");
    let rss = |row: &Value| row["rss_bytes"].as_u64().unwrap_or(0);
    ensure!(rss(&after) < rss(&before) + (16 << 20), "memory grew from {} to {}", rss(&before), rss(&after));
    Ok(())
}

fn a_flood_of_forged_classic_requests_leaves_extended_callers_alone() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let (_c, forger) = flooder(&net)?;
    let mut forgeries = forgeries(&net, "echo", false)?;
    for _ in 0..MANY {
        forgeries.send(&forger)?;
    }
    let output = net.a.run("oping", &["echo", "-c", "3", "-i", "0"])?;
    ensure!(output.code() == 0, "{output:?}");
    let after = ipcp(&net.b)?;
    ensure!(counter(&after, "dropped_classic_load") > 0, "{after}");
    Ok(())
}

fn a_forged_request_starts_no_program() -> Result<()> {
    let net = Net::up(&["asleep"])?;
    let (_c, forger) = flooder(&net)?;
    let oping = lab::binaries::folder().context("the programs")?.join("oping");
    let oping = oping.to_str().context("a path")?;
    net.b.irm(&["bind", "program", oping, "--name", "asleep", "--auto", "--", "--listen", "asleep"])?;
    net.b.irm(&["name", "register", "asleep", "--layer", "net"])?;
    for extended in [true, false] {
        let mut forgeries = forgeries(&net, "asleep", extended)?;
        for _ in 0..20 {
            forgeries.send(&forger)?;
        }
    }
    // A control question goes the same way, so that they are all seen by now: the name is told of, and nobody serves it.
    lab::wait_until(SOON, "the forged ones to be met", || {
        ipcp(&net.b).is_ok_and(|row| counter(&row, "cookies_wanted") == 20 && counter(&row, "requests") == 20)
    })?;
    let name = || -> Result<Value> {
        let rows = net.b.list("name list")?;
        rows.into_iter().find(|row| row["name"] == "asleep").context("the name")
    };
    lab::wait_until(SOON, "the classic ones to wait", || name().is_ok_and(|row| row["pending"] == 20))?;
    ensure!(name()?["processes"].as_array().is_none_or(Vec::is_empty), "{}", name()?);
    let output = net.a.run("oping", &["asleep", "-c", "1"])?;
    ensure!(output.code() == 0, "an honest one starts it: {output:?}");
    Ok(())
}

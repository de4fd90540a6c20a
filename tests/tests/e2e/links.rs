//! Flows over bad links.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows};
use lab::{Burst, Link};
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_flow_over_a_long_and_lossy_path,
        a_handshake_whose_datagrams_come_twice_and_in_disorder_makes_one_flow,
        losses_in_bursts_and_broken_datagrams_leave_the_others_whole,
        a_flow_outlives_a_cut_of_its_link,
    ]
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What `oping` counts, from 200 SDUs to "echo" every 20 ms.
fn ping(net: &Net) -> Result<Value> {
    let output = net.a.run("oping", &["echo", "-c", "200", "-i", "0.02", "--alloc-timeout", "10", "--json"])?;
    ensure!(output.code() == 0, "oping ended with {}: {output:?}", output.code());
    serde_json::from_str(&output.out).context("oping printed no JSON")
}

fn number(json: &Value, key: &str) -> Result<u64> {
    json[key].as_u64().with_context(|| format!("no {key}: {json}"))
}

fn a_flow_over_a_long_and_lossy_path() -> Result<()> {
    for seed in 1..=3 {
        let net = Net::up(&["echo"])?;
        let _server = net.b.serve("echo")?;
        net.a.link().set(Link { delay: ms(100), loss: 0.1, seed, ..Link::CLEAN })?;
        let json = ping(&net).with_context(|| format!("seed {seed}, {:?}", net.a.link().counts()))?;
        // There and back: 81 % of 200.
        ensure!((130..=190).contains(&number(&json, "received")?), "{json}");
    }
    Ok(())
}

fn a_handshake_whose_datagrams_come_twice_and_in_disorder_makes_one_flow() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let link = Link { delay: ms(5), duplicate: 1.0, reorder: 0.5, reorder_by: ms(30), ..Link::CLEAN };
    net.a.link().set(link)?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=5")?;
    await_flows(&net.a, 1)?;
    await_flows(&net.b, 1)?;
    client.signal(lab::Signal::INT)?;
    ensure!(client.wait(SOON)?.code() == 0, "oping failed");
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0).map(drop)
}

fn losses_in_bursts_and_broken_datagrams_leave_the_others_whole() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let link = Link { burst: Some(Burst::of(0.1, 4.0)), corrupt: 0.05, ..Link::CLEAN };
    net.a.link().set(link)?;
    let json = ping(&net)?;
    let (up, down) = net.a.link().counts()?;
    ensure!(up.corrupted + down.corrupted > 5 && up.lost_in_burst + down.lost_in_burst > 10, "{up:?} {down:?}");
    ensure!((90..=190).contains(&number(&json, "received")?), "{json}");
    Ok(())
}

fn a_flow_outlives_a_cut_of_its_link() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.05"])?;
    client.expect_line(SOON, "seq=3")?;
    net.a.link().cut()?;
    lab::wait_until(SOON, "SDUs to be lost", || net.a.link().counts().is_ok_and(|(up, _)| up.cut > 10))?;
    let said = client.out().lines().count();
    net.a.link().restore()?;
    lab::wait_until(SOON, "replies to come again", || client.out().lines().count() > said + 3)?;
    client.signal(lab::Signal::INT)?;
    ensure!(client.wait(SOON)?.code() == 0, "oping failed");
    Ok(())
}

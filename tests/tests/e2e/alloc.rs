//! Flows by name: what works, and what is said at once when it does not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{AT_ONCE, Net, SOON, await_flows, timed};
use lab::{Host, Output};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        oping_by_name_over_ipv4,
        oping_by_name_over_ipv6,
        a_flow_within_one_host_needs_no_ipcp,
        both_flow_tables_show_the_same_flow,
        an_unknown_name_fails_at_once,
        a_name_its_host_does_not_serve_fails_at_once,
        a_silent_host_is_given_up_at_the_deadline,
        a_host_without_a_shim_is_given_up_at_the_deadline,
        a_name_nobody_accepts_for_says_so,
        a_layer_that_does_not_exist_says_so,
        an_sdu_over_the_limit_names_the_limit,
        a_program_is_started_when_a_flow_arrives,
        a_port_range_for_accepted_flows_is_kept,
    ]
}

/// `oping` three times; all must come back.
fn ping(host: &Host, name: &str) -> Result<Output> {
    let output = host.run("oping", &[name, "-c", "3", "-i", "0.05"])?;
    ensure!(output.code() == 0, "oping {name} at host {}: {output:?}", host.name());
    let replies = output.out.lines().filter(|line| line.contains("seq=")).count();
    ensure!(replies == 3, "{replies} replies of 3: {output:?}");
    Ok(output)
}

/// An allocation that must fail with `words` in its message after at least `at_least` and no deadline later.
fn fails(host: &Host, args: &[&str], words: &[&str], at_least: Duration) -> Result<()> {
    let (output, took) = timed(|| host.run("oping", args));
    let output = output?;
    ensure!(output.code() == 2, "oping {args:?} ended with {}: {output:?}", output.code());
    for word in words {
        ensure!(output.err.contains(word), "oping {args:?} does not say {word:?}: {}", output.err);
    }
    ensure!(took >= at_least && took < at_least + AT_ONCE, "it took {took:?}: {output:?}");
    Ok(())
}

fn oping_by_name_over_ipv4() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let output = ping(&net.a, "echo")?;
    ensure!(output.out.contains("10.0.0.2:"), "the peer's address is not shown: {}", output.out);
    Ok(())
}

fn oping_by_name_over_ipv6() -> Result<()> {
    let net = Net::up6(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let output = ping(&net.a, "echo")?;
    ensure!(output.out.contains("[fd00::2]:"), "the peer's address is not shown: {}", output.out);
    Ok(())
}

fn a_flow_within_one_host_needs_no_ipcp() -> Result<()> {
    let net = Net::bare()?;
    let _server = net.b.serve("echo")?;
    ping(&net.b, "echo")?;
    let endless = net.b.start("oping", &["echo", "-i", "0.1"])?;
    endless.expect_line(SOON, "seq=")?;
    let rows = await_flows(&net.b, 1)?;
    assert_eq!(rows[0]["layer"], "local");
    ensure!(rows[0]["peer_process"]["pid"].as_u64() > Some(0), "{rows:#?}");
    Ok(())
}

fn both_flow_tables_show_the_same_flow() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let server = net.b.serve("echo")?;
    let mut client = net.a.start("oping", &["echo", "-i", "0.1"])?;
    client.expect_line(SOON, "seq=")?;
    let (at_a, at_b) = (await_flows(&net.a, 1)?.remove(0), await_flows(&net.b, 1)?.remove(0));
    for row in [&at_a, &at_b] {
        let seen = (&row["name"], &row["layer"], &row["ipcp"], &row["state"], &row["classic"]);
        ensure!(
            row["name"] == "echo" && row["layer"] == "net" && row["ipcp"] == "udp0" && row["state"] == "allocated",
            "{seen:?}"
        );
        assert_eq!(row["classic"], false);
    }
    assert_eq!(at_a["local_address"], at_b["peer_address"]);
    assert_eq!(at_b["local_address"], at_a["peer_address"]);
    assert_eq!(at_a["process"]["pid"], client.pid());
    assert_eq!(at_b["process"]["pid"], server.pid());
    ensure!(at_a["counters"]["sdus_sent"].as_u64() > Some(0), "the flow's counters do not count: {at_a}");
    client.signal(lab::Signal::INT)?;
    assert_eq!(client.wait(SOON)?.code(), 0);
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0)?;
    Ok(())
}

fn an_unknown_name_fails_at_once() -> Result<()> {
    let net = Net::up(&["echo"])?;
    fails(&net.a, &["nowhere"], &["nowhere"], Duration::ZERO)
}

fn a_name_its_host_does_not_serve_fails_at_once() -> Result<()> {
    let net = Net::up(&["ghost"])?;
    fails(&net.a, &["ghost"], &["ghost"], Duration::ZERO)
}

fn a_silent_host_is_given_up_at_the_deadline() -> Result<()> {
    let net = Net::bare()?;
    let c = net.another("c")?;
    let silent = c.socket(3359)?;
    net.a.bootstrap(&[("echo", &c)])?;
    fails(&net.a, &["echo", "--alloc-timeout", "2"], &["10.0.0.3"], Duration::from_millis(1900))?;
    let mut bytes = [0; 2048];
    let (length, _) = silent.recv_from(&mut bytes).context("no request arrived")?;
    ensure!(bytes[..length].starts_with(b"echo\0"), "no request");
    silent.recv_from(&mut bytes).context("it asked only once")?;
    Ok(())
}

fn a_host_without_a_shim_is_given_up_at_the_deadline() -> Result<()> {
    let net = Net::bare()?;
    let c = net.another("c")?;
    net.a.bootstrap(&[("echo", &c)])?;
    let (output, took) = timed(|| net.a.run("oping", &["echo", "--alloc-timeout", "2"]));
    let output = output?;
    ensure!(output.code() == 2 && output.err.contains("10.0.0.3"), "{output:?}");
    ensure!(took < AT_ONCE, "it took {took:?}");
    Ok(())
}

fn a_name_nobody_accepts_for_says_so() -> Result<()> {
    let net = Net::up(&["quiet"])?;
    net.b.irm(&["name", "create", "quiet"])?;
    net.b.irm(&["name", "register", "quiet", "--layer", "net"])?;
    let words = ["quiet", "--alloc-timeout", "1"];
    fails(&net.a, &words, &["quiet", "no program took the flow"], Duration::from_millis(500))?;
    fails(&net.b, &words, &["quiet", "no program took the flow"], Duration::from_millis(900))
}

fn a_layer_that_does_not_exist_says_so() -> Result<()> {
    let net = Net::up(&["echo"])?;
    fails(&net.a, &["echo", "--layer", "moon"], &["moon"], Duration::ZERO)
}

fn an_sdu_over_the_limit_names_the_limit() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    let output = net.a.run("oping", &["echo", "-c", "1", "-s", "1473"])?;
    ensure!(output.code() != 0 && output.err.contains("1472"), "{output:?}");
    let output = net.a.run("oping", &["echo", "-c", "1", "-s", "1472"])?;
    ensure!(output.code() == 0, "an SDU of the limit must pass: {output:?}");
    Ok(())
}

fn a_program_is_started_when_a_flow_arrives() -> Result<()> {
    let net = Net::up(&["asleep"])?;
    let oping = lab::binaries::folder().context("prepared")?.join("oping");
    let oping = oping.to_str().context("a path in UTF-8")?;
    net.b.irm(&["bind", "program", oping, "--name", "asleep", "--auto", "--", "--listen", "asleep"])?;
    net.b.irm(&["name", "register", "asleep", "--layer", "net"])?;
    assert_eq!(net.b.accepting("asleep")?, 0);
    ping(&net.a, "asleep")?;
    let row = net.b.list("name list")?.into_iter().find(|row| row["name"] == "asleep").context("asleep")?;
    assert_eq!(row["processes"].as_array().map(Vec::len), Some(1), "{row}");
    // The second flow finds it awake.
    ping(&net.a, "asleep")?;
    let again = net.b.list("name list")?.into_iter().find(|row| row["name"] == "asleep").context("asleep")?;
    assert_eq!(row["processes"], again["processes"]);
    Ok(())
}

fn a_port_range_for_accepted_flows_is_kept() -> Result<()> {
    let net = Net::bare()?;
    net.a.bootstrap(&[("echo", &net.b)])?;
    net.b.bootstrap_with(&[], &["--sp-range", "40000-40001"])?;
    let _server = net.b.serve("echo")?;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = net.a.start("oping", &["echo", "-i", "0.2"])?;
        let header = client.expect_line(SOON, "10.0.0.2:4000")?;
        ensure!(header.contains("10.0.0.2:40000") || header.contains("10.0.0.2:40001"), "{header}");
        clients.push(client);
    }
    let output = net.a.run("oping", &["echo", "-c", "1"])?;
    ensure!(output.code() == 2, "a third flow found a port out of the range: {output:?}");
    Ok(())
}

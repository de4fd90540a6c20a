//! The daemons' logs: formats, the flow's number in each line of its life, a filter that is changed at run time.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON};
use lab::Lab;
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        every_line_of_a_flows_life_has_its_number,
        a_filter_is_changed_at_run_time_and_comes_back,
        a_wrong_filter_leaves_the_old,
        logs_are_for_people_where_that_is_asked_for,
        what_a_peer_chose_forges_no_line,
    ]
}

/// The lines of a log that are about a flow.
fn of_flow(log: &str, flow: u64) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["flow"] == flow).collect()
}

fn filters(host: &lab::Host) -> Result<Vec<(String, String)>> {
    let rows = host.list("log")?;
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    Ok(rows.iter().map(|row| (text(row, "daemon"), text(row, "filter"))).collect())
}

fn both(filter: &str) -> Vec<(String, String)> {
    ["irmd", "udp0"].map(|daemon| (daemon.to_owned(), filter.to_owned())).into()
}

fn every_line_of_a_flows_life_has_its_number() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    net.a.irm(&["log", "debug"])?;
    let _server = net.b.serve("echo")?;
    let output = net.a.run("oping", &["echo", "-c", "1"])?;
    ensure!(output.code() == 0, "{output:?}");
    // irmd's own lines and those of its IPCP are in one stream.
    net.irmd_a.process().expect_log(SOON, "flow over")?;
    let log = net.irmd_a.process().err();
    let flows: Vec<u64> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| line["flow"].as_u64())
        .collect();
    let flow = *flows.first().with_context(|| format!("no line has a flow:\n{log}"))?;
    let lines = of_flow(&log, flow);
    let said: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    for wanted in ["is asked for by process", "flow allocated", "is allocated over udp0", "flow over"] {
        ensure!(
            said.iter().any(|line| line.contains(wanted)),
            "no line of flow {flow} says {wanted:?}: {said:#?}\n{log}"
        );
    }
    ensure!(lines.iter().all(|line| line["timestamp"].is_string() && line["level"].is_string()), "{lines:#?}");
    Ok(())
}

fn a_filter_is_changed_at_run_time_and_comes_back() -> Result<()> {
    let net = Net::up(&["echo"])?;
    assert_eq!(filters(&net.a)?, both("info"));
    let said = net.a.irm(&["log", "debug", "--for", "1"])?;
    ensure!(said.contains("info in 1 s"), "{said}");
    assert_eq!(filters(&net.a)?, both("debug"));
    lab::wait_until(SOON, "the filter to come back", || filters(&net.a).is_ok_and(|now| now == both("info")))?;
    net.a.irm(&["log", "warn", "--ipcp", "udp0"])?;
    assert_eq!(filters(&net.a)?[1].1, "warn");
    assert_eq!(filters(&net.a)?[0].1, "info");
    net.a.irm(&["log", "off", "--ipcp", "irmd"])?;
    assert_eq!(filters(&net.a)?[0].1, "off");
    Ok(())
}

fn a_wrong_filter_leaves_the_old() -> Result<()> {
    let net = Net::up(&[])?;
    for (words, why) in [
        (&["log", "dbug"][..], "\"dbug\" is no level to log at; write info"),
        (&["log", "irmd=loud"], "\"loud\" is no level"),
        (&["log", "debug", "--ipcp", "udp9"], "no IPCP udp9 is attached"),
    ] {
        let output = net.a.run("irm", words)?;
        ensure!(output.code() == 1 && output.err.contains(why), "{words:?}: {output:?}");
    }
    let output = net.a.run("irm", &["log", "--for", "5"])?;
    ensure!(output.code() == 2, "{output:?}");
    assert_eq!(filters(&net.a)?, both("info"));
    let output = net.b.start("irmd", &["--log", "dbug"])?.wait(SOON)?;
    ensure!(output.code() == 1 && output.err.contains("--log dbug: \"dbug\" is no level"), "{output:?}");
    Ok(())
}

fn logs_are_for_people_where_that_is_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let mut irmd = a.irmd().args(&["--log-format", "human"]).start()?;
    a.bootstrap(&[])?;
    // Of the IPCP that it started, too.
    let line = irmd.process().expect_log(SOON, "layer up")?;
    ensure!(line.contains(" INFO ") && line.contains("layer=\"net\"") && !line.starts_with('{'), "{line}");
    Ok(())
}

fn what_a_peer_chose_forges_no_line() -> Result<()> {
    let lab = Lab::new()?;
    let [a] = lab.hosts(["a"])?;
    let mut irmd = a.irmd().args(&["--log-format", "human", "--log", "debug"]).start()?;
    a.bootstrap(&[])?;
    // A name with a line break and what a terminal obeys, asked for by who is no shim.
    let shim = a.shim();
    a.socket(40_000)?.send_to(b"x\nINFO irmd: forged\x1b[2J", shim)?;
    a.irm(&["status"])?;
    let output = irmd.stop()?;
    ensure!(!output.err.lines().any(|line| line.starts_with("INFO irmd: forged")), "{}", output.err);
    ensure!(!output.err.contains('\u{1b}'), "{:?}", output.err);
    Ok(())
}

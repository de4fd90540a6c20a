//! Who a host is to others, and names that ask for it.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, await_flows};
use lab::{Host, Output};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_host_has_an_identity_of_its_own_over_restarts,
        a_name_that_asks_for_identity_takes_no_raw_flow_from_other_hosts,
    ]
}

fn irm(host: &Host, line: &str) -> Result<Output> {
    host.run("irm", &line.split(' ').collect::<Vec<_>>())
}

fn done(host: &Host, line: &str) -> Result<String> {
    let output = irm(host, line)?;
    ensure!(output.code() == 0, "irm {line}: {output:?}");
    Ok(output.out)
}

fn fingerprint(host: &Host) -> Result<String> {
    let shown: serde_json::Value = serde_json::from_str(&done(host, "identity show --json")?)?;
    Ok(shown["fingerprint"].as_str().context("a fingerprint")?.to_owned())
}

fn a_host_has_an_identity_of_its_own_over_restarts() -> Result<()> {
    let mut net = Net::bare()?;
    let (a, b) = (fingerprint(&net.a)?, fingerprint(&net.b)?);
    ensure!(a != b && a.starts_with("SHA256:") && a.len() == 50, "{a}, {b}");
    net.irmd_a.process().kill()?;
    net.irmd_a = net.a.irmd().start()?;
    ensure!(fingerprint(&net.a)? == a);
    let request = done(&net.a, "identity show --request")?;
    ensure!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{request}");

    // What a says of b lasts, too.
    done(&net.a, &format!("identity trust echo {b}"))?;
    let again = irm(&net.a, "identity trust echo SHA256:nonsense")?;
    ensure!(again.code() == 1 && again.err.contains("is no fingerprint"), "{again:?}");
    net.irmd_a.process().kill()?;
    net.irmd_a = net.a.irmd().start()?;
    let rows = net.a.list("identity list")?;
    ensure!(rows.len() == 1 && rows[0]["identity"] == b && rows[0]["source"] == "runtime.toml", "{rows:?}");
    done(&net.a, "identity forget echo")?;
    ensure!(net.a.list("identity list")?.is_empty());
    let gone = irm(&net.a, "identity forget echo")?;
    ensure!(gone.code() == 1 && gone.err.contains("see irm identity list"), "{gone:?}");
    Ok(())
}

fn a_name_that_asks_for_identity_takes_no_raw_flow_from_other_hosts() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let _server = net.b.serve("echo")?;
    done(&net.b, &format!("identity allow echo {}", fingerprint(&net.a)?))?;
    let ask = |host: &Host| host.run("oping", &["echo", "-c", "1", "--alloc-timeout", "5"]);
    let refused = ask(&net.a)?;
    let why = "does not permit a flow to echo: it asks for identity: ask for a message or stream flow";
    ensure!(refused.code() != 0 && refused.err.contains(why), "{refused:?}");
    let within = ask(&net.b)?;
    ensure!(within.code() == 0, "the kernel says who calls within a host: {within:?}");

    done(&net.b, "identity disallow echo")?;
    let flow = net.a.start("oping", &["echo", "-i", "0.2"])?;
    for host in [&net.a, &net.b] {
        let rows = await_flows(host, 1)?;
        ensure!(rows[0]["plaintext"] == true && rows[0]["peer_identity"].is_null(), "{rows:?}");
        let table = done(host, "flow list")?;
        ensure!(table.contains(" plaintext "), "{table}");
    }
    drop(flow);
    Ok(())
}

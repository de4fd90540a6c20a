//! Who a host is to others, and names that ask for it.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::cases;
use flowring_tests::flows::{flow, listen};
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows};
use lab::{Host, Output};
use libflow::blocking::{Flow, Stack};
use libflow::{AllocError, Cube, Qos};
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases![
        a_host_has_an_identity_of_its_own_over_restarts,
        a_name_that_asks_for_identity_takes_no_raw_flow_from_other_hosts,
        a_host_that_changed_is_refused_until_somebody_trusts_it,
        who_is_not_on_the_list_hears_who_it_is_and_who_is_gets_in,
    ];
    cases.extend(cases![programs ["openssl"]: hosts_of_a_ca_are_trusted]);
    cases
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

/// A message flow to echo, which the server of host b echoes.
fn ask(from: &Host) -> Result<Flow, AllocError> {
    Stack::find(Some(from.run_dir())).expect("a run directory").alloc("echo").qos(Qos::message()).timeout(SOON).wait()
}

/// What a program hears that is not to get one.
fn refused(from: &Host) -> Result<AllocError> {
    match ask(from) {
        Err(error) => Ok(error),
        Ok(_) => bail!("it was let in"),
    }
}

/// Who the peer of the only flow of a host has shown to be, and why it is believed.
fn peer(host: &Host) -> Result<(Value, Value, Value)> {
    let mut row = await_flows(host, 1)?.remove(0);
    Ok((row["peer_identity"].take(), row["peer_certified"].take(), row["trusted_by"].take()))
}

fn a_host_that_changed_is_refused_until_somebody_trusts_it() -> Result<()> {
    let mut net = Net::up(&["echo"])?;
    let (a, old) = (fingerprint(&net.a)?, fingerprint(&net.b)?);
    let server = net.b.serve("echo")?;
    for by in ["first use", "remembered"] {
        let asked = ask(&net.a)?;
        let (at_a, at_b) = (peer(&net.a)?, peer(&net.b)?);
        ensure!(at_a == (old.clone().into(), "echo".into(), by.into()), "{at_a:?}");
        ensure!(at_b == (a.clone().into(), Value::Null, "any".into()), "{at_b:?}");
        drop(asked);
        await_flows(&net.a, 0)?;
        await_flows(&net.b, 0)?;
    }
    drop(server);

    // Somebody else answers in b's place.
    net.irmd_b.process().kill()?;
    std::fs::remove_file(net.b.run_dir().join("state/host-key.pem"))?;
    net.irmd_b = net.b.irmd().start()?;
    let new = fingerprint(&net.b)?;
    let _server = net.b.serve("echo")?;
    let said = refused(&net.a)?;
    let AllocError::Untrusted { message } = &said else { bail!("{said:?}") };
    let advice = format!("identity trust echo {new}");
    ensure!(old != new && message.contains(&old) && message.ends_with(&format!("irm {advice}")), "{message}");
    done(&net.a, &advice)?;
    let asked = ask(&net.a)?;
    let shown = asked.peer().identity.context("an identity")?;
    ensure!((shown.host.as_str(), shown.trusted_by.as_str()) == (&new, "pin"), "{shown:?}");
    Ok(())
}

fn who_is_not_on_the_list_hears_who_it_is_and_who_is_gets_in() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let (a, b) = (fingerprint(&net.a)?, fingerprint(&net.b)?);
    let listener = listen(&net.b, "echo")?;
    done(&net.b, &format!("identity allow echo {b}"))?;
    let ends = std::thread::scope(|scope| {
        let accepting = scope.spawn(|| listener.accept_within(SOON));
        let text = refused(&net.a)?.to_string();
        ensure!(text.contains(&format!("the host {a} may not allocate flows to echo")), "{text}");
        // Who was refused does not count as a flow: the next one is accepted.
        done(&net.b, &format!("identity allow echo {a}"))?;
        let asked = ask(&net.a)?;
        let accepted = accepting.join().expect("no panic")?;
        ensure!(accepted.peer().identity.as_ref().is_some_and(|peer| peer.host == a), "{:?}", accepted.peer());
        Ok((asked, accepted))
    })?;
    let row =
        net.b.list("flow list")?.into_iter().find(|row| row["peer_identity"] == a).context("the flow is listed")?;
    ensure!(row["trusted_by"] == "allowed" && row["plaintext"] == false, "{row}");
    drop(ends);
    // Within the host nobody has to show anything.
    let (_asked, _accepted) = flow(&net.b, &listener, Cube::Stream)?;
    Ok(())
}

fn hosts_of_a_ca_are_trusted() -> Result<()> {
    let net = Net::up(&["echo"])?;
    let folder = net.a.run_dir();
    let openssl = |args: &[&str]| -> Result<()> {
        let output = Command::new("openssl").args(args).current_dir(folder).output()?;
        ensure!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let server = net.b.serve("echo")?;
    std::fs::write(folder.join("b.csr"), done(&net.b, "identity show --request")?)?;
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/O=X/CN=CA",
    ])?;
    let sign = ["x509", "-req", "-in", "b.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1"];
    openssl(&[&sign[..], &["-copy_extensions", "copyall", "-out", "b.pem"]].concat())?;
    let path = |file: &str| folder.join(file).display().to_string();
    done(&net.a, &format!("identity trust e* --ca {}", path("ca.pem")))?;
    // Its host has not shown the CA's certificate yet.
    let said = refused(&net.a)?.to_string();
    ensure!(said.contains("none of the CAs trusted with it stands behind the certificate of its host"), "{said}");
    done(&net.b, &format!("identity install {}", path("b.pem")))?;
    // A program shows what it got before until it asks again; a new one asks.
    drop(server);
    let _server = net.b.serve("echo")?;
    let asked = ask(&net.a)?;
    ensure!(asked.peer().identity.as_ref().is_some_and(|shown| shown.trusted_by == "ca"), "{:?}", asked.peer());
    Ok(())
}

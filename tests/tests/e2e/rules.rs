//! Rules of names that need no second user: of addresses, and mistakes in them.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, ipcp};
use flowring_tests::spoof::Forger;
use lab::{Host, Lab};
use libflow::AllocError;
use libflow::blocking::Stack;
use proto::shim::{Extension, Request};
use proto::{BootId, HostId, Name, Qos, WireId};
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        hosts_are_judged_by_their_address,
        a_forged_address_opens_no_flow,
        a_prefix_has_its_share_of_flows,
        mistakes_in_rules_are_told_before_anything_starts,
    ]
}

/// irmd of a host, with a configuration.
pub(crate) fn start(host: &Host, config: &str) -> Result<lab::Daemon> {
    let file = host.run_dir().join("irmd.toml");
    std::fs::write(&file, config)?;
    host.irmd().args(&["--config", file.to_str().context("utf-8")?]).start()
}

/// A counter of irmd's.
pub(crate) fn counter(host: &Host, name: &str) -> Result<u64> {
    let status: Value = serde_json::from_str(&host.irm(&["status", "--json"])?)?;
    Ok(status["counters"][name].as_u64().unwrap_or(0))
}

fn hosts_are_judged_by_their_address() -> Result<()> {
    let net = Net::up(&["web", "open"])?;
    let (a, b) = (net.a.address().to_string(), &net.b);
    let _web = b.serve("web")?;
    let _open = b.serve("open")?;
    let ping = |name: &str| net.a.run("oping", &[name, "-c", "1"]);
    ensure!(ping("web")?.code() == 0);
    // Made by its server, it lasts from now on.
    b.irm(&["name", "create", "web", "--allow-remote", &a])?;
    let proven = || -> Result<u64> { Ok(ipcp(b)?["counters"]["cookies_valid"].as_u64().unwrap_or(0)) };
    lab::wait_until(SOON, "the rule to be there", || {
        ping("web").is_ok_and(|output| output.code() == 0) && proven().is_ok_and(|n| n > 0)
    })?;
    b.irm(&["name", "rules", "web", "--deny-remote", "10.0.0.0/8", "--allow-remote", "192.0.2.0/24"])?;
    let refused = ping("web")?;
    ensure!(refused.code() == 2 && refused.err.contains("does not permit a flow to web"), "{refused:?}");
    // A peer hears that it may not, and not why.
    ensure!(!refused.err.contains("192.0.2") && !refused.err.contains("10.0.0.0/8"), "{refused:?}");
    ensure!(counter(b, "refused_allocate_remote")? > 0);
    ensure!(ping("open")?.code() == 0, "other names are none the worse");
    // Who asks on the host itself is told the rule.
    let out = b.irm(&["name", "may", "web", "--from", &a])?;
    assert_eq!(out, "allocate: no: its rule (runtime.toml) says deny-remote = [10.0.0.0/8]");
    // The longest prefix decides.
    b.irm(&["name", "rules", "web", "--allow-remote", &a])?;
    ensure!(ping("web")?.code() == 0);
    b.irm(&["name", "rules", "web", "--allow-remote", "none", "--deny-remote", "default"])?;
    ensure!(ping("web")?.code() == 2);
    let local = b.run("oping", &["web", "-c", "1"])?;
    ensure!(local.code() == 0, "within the host another rule counts: {local:?}");
    // Rules of a pattern reach names that have none of their own.
    b.irm(&["name", "rules", "o*", "--allow-remote", "192.0.2.1"])?;
    let refused = ping("open")?;
    ensure!(refused.code() == 2 && refused.err.contains("does not permit"), "{refused:?}");
    b.irm(&["name", "rules", "o*", "--allow-remote", "default"])?;
    ensure!(ping("open")?.code() == 0);
    Ok(())
}

fn a_forged_address_opens_no_flow() -> Result<()> {
    let net = Net::up(&["web"])?;
    let b = &net.b;
    let std::net::IpAddr::V4(a) = net.a.address() else { bail!("the lab has IPv4") };
    let std::net::SocketAddr::V4(shim) = b.shim() else { bail!("the lab has IPv4") };
    b.irm(&["name", "create", "web", "--allow-remote", &a.to_string()])?;
    let _web = b.serve("web")?;
    ensure!(net.a.run("oping", &["web", "-c", "1"])?.code() == 0, "from the real address it opens");
    await_flows(b, 0)?;
    let c = net.another("c")?;
    let forger = Forger::at(&c)?;
    let name = Name::new("web")?;
    let before = ipcp(b)?["counters"]["cookies_wanted"].as_u64().unwrap_or(0);
    for n in 0..20_u16 {
        let extension = Extension {
            host: HostId(1),
            boot: BootId(2),
            client: WireId(u64::from(n) + 1),
            source: "forged".into(),
            qos: Qos::raw(),
            deadline_ms: 5_000,
            listen_port: proto::shim::PORT,
            data: Vec::new(),
            direct: false,
            cookie: Vec::new(),
        };
        let from = SocketAddrV4::new(a, 20_000 + n);
        forger.send(from, shim, &Request::Extended(name.clone(), extension).encode())?;
        forger.send(from, shim, &Request::Classic(name.clone()).encode())?;
    }
    lab::wait_until(SOON, "the extended ones to be asked for cookies, the classic ones to be refused", || {
        ipcp(b).is_ok_and(|row| row["counters"]["cookies_wanted"].as_u64() == Some(before + 20))
            && counter(b, "refused_allocate_remote").is_ok_and(|n| n == 20)
    })?;
    ensure!(flowring_tests::net::flows(b)?.is_empty(), "none opened a flow");
    Ok(())
}

fn a_prefix_has_its_share_of_flows() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let _irmds = (a.irmd().start()?, start(&b, "[options]\nflows-per-prefix = 3\n")?);
    a.bootstrap(&[("echo", &b)])?;
    b.bootstrap(&[])?;
    let _server = b.serve("echo")?;
    let stack = Stack::find(Some(a.run_dir()))?;
    let mut flows = (0..3).map(|_| stack.alloc("echo").timeout(SOON).wait()).collect::<Result<Vec<_>, _>>()?;
    match stack.alloc("echo").timeout(SOON).wait() {
        Err(AllocError::Exhausted { .. }) => {}
        other => bail!("a fourth flow gives {other:?}"),
    }
    ensure!(counter(&b, "refused_flows_per_prefix")? > 0);
    drop(flows.pop());
    lab::wait_until(SOON, "the place to be given back", || stack.alloc("echo").timeout(SOON).wait().is_ok())?;
    ensure!(b.run("oping", &["echo", "-c", "1"])?.code() == 0, "programs here do not count");
    Ok(())
}

fn mistakes_in_rules_are_told_before_anything_starts() -> Result<()> {
    let lab = Lab::new()?;
    let [host] = lab.hosts(["a"])?;
    let table = [
        ("[[name]]\nname = \"a\"\nserve = [\"no-such-user\"]", "[[name]] a: rules: there is no user \"no-such-user\""),
        ("[[name]]\nname = \"a\"\nowner = \"no-such-user\"", "[[name]] a: owner: there is no user"),
        ("[[rule]]\npattern = \"a.*\"\nserve = [\"@no-such-group\"]", "[[rule]] a.*: rules: there is no group"),
        ("[options]\nadmin-group = \"no-such-group\"", "admin-group: there is no group \"no-such-group\""),
        ("[[name]]\nname = \"a\"\nallow-remote = [\"10.0.0.1/8\"]", "line 3, column 16"),
        ("[[name]]\nname = \"a\"\nallow-remote = [\"10.0.0.1/8\"]", "write 10.0.0.0/8 or 10.0.0.1"),
        ("[[name]]\nname = \"a\"\nserve = \"any\"", "line 3, column 9"),
        ("[[rule]]\npattern = \"a*b\"\nserve = [\"any\"]", "* stands at the end only"),
        ("[[rule]]\npattern = \"a*\"", "says nothing"),
        ("[[name]]\nname = \"a\"\nallow-remote = [\"::/0\"]\ndeny-remote = [\"::/0\"]", "both in allow-remote and"),
    ];
    let file = host.run_dir().join("irmd.toml");
    for (text, said) in table {
        std::fs::write(&file, text)?;
        let output = host.run("irmd", &["--config", file.to_str().context("utf-8")?])?;
        let named = output.err.contains("irmd.toml") && output.err.contains(said);
        ensure!(output.code() == 1 && named, "{text}\nshould say {said:?}: {output:?}");
    }
    Ok(())
}

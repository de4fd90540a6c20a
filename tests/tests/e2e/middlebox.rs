//! Flows through firewalls and NATs.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::cases;
use flowring_tests::flows::pair;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows, ipcp};
use lab::{Host, Lab, Middlebox};
use libflow::Cube;
use libflow::blocking::Flow;

pub(crate) fn cases() -> Vec<Case> {
    cases![
        middleboxes:
        a_client_behind_a_middlebox_gets_its_flow,
        two_clients_behind_one_nat_get_their_flows,
        a_server_behind_a_middlebox_with_forwarded_ports_is_reached,
        a_server_behind_a_middlebox_with_one_forwarded_port_is_reached,
        a_client_behind_a_middlebox_reaches_a_server_with_one_port,
        middleboxes_on_both_sides_are_passed_with_one_port,
    ]
}

/// SDUs each way, and how many of them before the other end has its turn: no queue on the way loses any of so few.
const SDUS: u32 = 1000;
const IN_FLIGHT: u32 = 50;

/// Every SDU of `range` from one end to the other, in order.
fn pass(from: &Flow, to: &Flow, range: std::ops::Range<u32>) -> Result<()> {
    let mut buffer = [0; 2048];
    for number in range.clone() {
        from.send(&[&number.to_be_bytes()[..], &[7; 1000]].concat())?;
    }
    for number in range {
        let length = to.recv_within(&mut buffer, SOON).with_context(|| format!("SDU {number} did not come"))?;
        ensure!(length == 1004 && buffer[..4] == number.to_be_bytes(), "SDU {number} came as something else");
    }
    Ok(())
}

/// A flow and its SDUs, each way.
fn exchange(net: &Net) -> Result<()> {
    let (asked, accepted, _listener) = pair(net, "echo", Cube::Raw)?;
    for begin in (0..SDUS).step_by(IN_FLIGHT as usize) {
        pass(&asked, &accepted, begin..begin + IN_FLIGHT)?;
        pass(&accepted, &asked, begin..begin + IN_FLIGHT)?;
    }
    drop((asked, accepted));
    await_flows(&net.a, 0)?;
    await_flows(&net.b, 0).map(drop)
}

fn a_client_behind_a_middlebox_gets_its_flow() -> Result<()> {
    for kind in Middlebox::ALL {
        let lab = Lab::new()?;
        let [server] = lab.hosts(["server"])?;
        let client = lab.host_behind("client", kind)?;
        let net = Net::of(lab, client, server)?;
        net.a.bootstrap(&[("echo", &net.b)])?;
        net.b.bootstrap(&[])?;
        exchange(&net).with_context(|| format!("a client behind {kind}"))?;
    }
    Ok(())
}

fn two_clients_behind_one_nat_get_their_flows() -> Result<()> {
    let lab = Lab::new()?;
    let [server] = lab.hosts(["server"])?;
    let [one, other] = lab.hosts_behind(["one", "other"], Middlebox::FullCone)?;
    let net = Net::of(lab, one, server)?;
    let _irmd = other.irmd().start()?;
    net.b.bootstrap(&[])?;
    let _server = net.b.serve("echo")?;
    let mut pings = Vec::new();
    for client in [&net.a, &other] {
        client.bootstrap(&[("echo", &net.b)])?;
        let ping = client.start("oping", &["echo", "-i", "0.05"])?;
        ping.expect_line(SOON, "seq=3")?;
        pings.push(ping);
    }
    // At once, and the server knows both by one address.
    for row in await_flows(&net.b, 2)? {
        let peer = row["peer_address"].as_str().context("peer_address")?;
        ensure!(peer.starts_with(&format!("{}:", other.public())), "{peer}");
    }
    for ping in &mut pings {
        ping.signal(lab::Signal::INT)?;
        ensure!(ping.wait(SOON)?.code() == 0, "a ping failed");
    }
    Ok(())
}

fn a_server_behind_a_middlebox_with_forwarded_ports_is_reached() -> Result<()> {
    for kind in Middlebox::ALL {
        let lab = Lab::new()?;
        let [client] = lab.hosts(["client"])?;
        let server = lab.server_behind("server", kind, &[3359..=3359, 40000..=40009])?;
        let net = Net::of(lab, client, server)?;
        net.a.bootstrap(&[("echo", &net.b)])?;
        net.b.bootstrap_with(&[], &["--sp-range", "40000-40009"])?;
        exchange(&net).and_then(|()| as_seen(&net.a, &net.b)).with_context(|| format!("a server behind {kind}"))?;
    }
    Ok(())
}

/// The server has all flows on its listen port.
fn on_the_listen_port(lab: Lab, client: Host, server: Host) -> Result<Net> {
    let net = Net::of(lab, client, server)?;
    net.a.bootstrap(&[("echo", &net.b)])?;
    net.b.bootstrap_with(&[], &["--sp-range", "listen"])?;
    Ok(net)
}

/// The server's middlebox, a firewall among them, lets UDP to 3359 in and nothing else.
fn a_server_behind_a_middlebox_with_one_forwarded_port_is_reached() -> Result<()> {
    for kind in Middlebox::ALL {
        let lab = Lab::new()?;
        let [client] = lab.hosts(["client"])?;
        let server = lab.server_behind("server", kind, &[3359..=3359])?;
        let net = on_the_listen_port(lab, client, server)?;
        exchange(&net).and_then(|()| on_one_port(&net)).with_context(|| format!("a server behind {kind}"))?;
    }
    Ok(())
}

fn a_client_behind_a_middlebox_reaches_a_server_with_one_port() -> Result<()> {
    for kind in Middlebox::ALL {
        let lab = Lab::new()?;
        let [server] = lab.hosts(["server"])?;
        let client = lab.host_behind("client", kind)?;
        let net = on_the_listen_port(lab, client, server)?;
        exchange(&net).and_then(|()| on_one_port(&net)).with_context(|| format!("a client behind {kind}"))?;
    }
    Ok(())
}

fn middleboxes_on_both_sides_are_passed_with_one_port() -> Result<()> {
    for [client, server] in [
        [Middlebox::SymmetricRandom, Middlebox::Firewall],
        [Middlebox::PortRestricted, Middlebox::SymmetricSequential],
        [Middlebox::Firewall, Middlebox::Firewall],
    ] {
        let lab = Lab::new()?;
        let behind = lab.server_behind("server", server, &[3359..=3359])?;
        let asking = lab.host_behind("client", client)?;
        let net = on_the_listen_port(lab, asking, behind)?;
        exchange(&net).with_context(|| format!("a client behind {client}, a server behind {server}"))?;
    }
    Ok(())
}

/// Both sides show the listen port, as each sees it, and the listing says why.
fn on_one_port(net: &Net) -> Result<()> {
    ensure!(ipcp(&net.b)?["config"]["sp_listen"] == true, "the listing does not say so");
    let (asked, accepted, _listener) = pair(net, "echo", Cube::Raw)?;
    for (host, key, want) in [(&net.a, "peer_address", net.b.public()), (&net.b, "local_address", net.b.address())] {
        let row = await_flows(host, 1)?.remove(0);
        ensure!(row[key] == format!("{want}:3359"), "{key} at {}: {row}", host.name());
    }
    drop((asked, accepted));
    Ok(())
}

/// The client shows the address that it reaches the server at.
fn as_seen(client: &Host, server: &Host) -> Result<()> {
    let _server = server.serve("echo")?;
    let output = client.run("oping", &["echo", "-c", "1"])?;
    ensure!(output.out.contains(&format!("{}:4000", server.public())), "{output:?}");
    Ok(())
}

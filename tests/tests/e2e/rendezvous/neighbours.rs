//! Members that are seen at one address: in one network, in one that keeps them apart, in homes of one carrier.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{flow, listen};
use flowring_tests::net::await_flows;
use lab::{Host, Middlebox};
use libflow::Cube;

use super::stage::{Member, Session, await_name, exchange, only_flow};

/// How a flow between two such members goes, and where its peer is.
fn way(session: &Session, hosts: [Host; 2]) -> Result<(String, String)> {
    let [a, b] = session.neighbours(hosts)?;
    let listener = listen(&b.host, "echo")?;
    await_name(&a.host, "echo")?;
    let (asked, accepted) = flow(&a.host, &listener, Cube::Raw)?;
    exchange(&asked, &accepted, Cube::Raw)?;
    let text = |row: &serde_json::Value, what: &str| row[what].as_str().unwrap_or_default().to_owned();
    let row = only_flow(&a.host)?;
    ensure!(text(&row, "way") == text(&only_flow(&b.host)?, "way"), "{row}");
    drop((asked, accepted));
    // Its end is told, whatever way it went.
    for Member { host, .. } in [&a, &b] {
        await_flows(host, 0)?;
    }
    for Member { host, .. } in [&a, &b] {
        host.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    }
    let (ip, _) = text(&row, "peer_address")
        .rsplit_once(':')
        .map(|(ip, port)| (ip.to_owned(), port.to_owned()))
        .context("an address")?;
    Ok((text(&row, "way"), ip))
}

pub(crate) fn two_hosts_behind_one_nat_meet_locally() -> Result<()> {
    let session = Session::open()?;
    let hosts = session.lab.hosts_behind(["a", "b"], Middlebox::PortRestricted)?;
    let inside = hosts[1].address().to_string();
    let went = way(&session, hosts)?;
    ensure!(went == ("local".to_owned(), inside), "{went:?}");
    Ok(())
}

/// In a network that keeps its hosts apart, and in homes behind one carrier: directly where the box hairpins, relayed where not.
pub(crate) fn members_that_are_kept_apart_meet_by_hairpinning_or_are_relayed() -> Result<()> {
    let session = Session::open_with(&["--relay"])?;
    for hairpin in [true, false] {
        let apart = session.lab.hosts_apart([format!("a{hairpin}"), format!("b{hairpin}")], hairpin)?;
        let homes =
            session.lab.homes([format!("c{hairpin}"), format!("d{hairpin}")], Middlebox::PortRestricted, hairpin)?;
        for hosts in [apart, homes] {
            let want = match hairpin {
                true => ("public".to_owned(), hosts[0].public().to_string()),
                false => ("relayed".to_owned(), session.at.address().to_string()),
            };
            let names = hosts.each_ref().map(|host| host.name().to_owned());
            let went = way(&session, hosts).with_context(|| format!("{names:?}"))?;
            ensure!(went == want, "{names:?}: {went:?}");
        }
    }
    Ok(())
}

/// Two carriers, a home behind each: two boxes before either side, all port-restricted.
pub(crate) fn two_levels_of_nat_on_both_sides_are_passed() -> Result<()> {
    let session = Session::open()?;
    let hosts = ["a", "b"].map(|name| session.lab.host_behind(name, Middlebox::CarrierOverCone));
    let [a, b] = hosts;
    let (a, b) = (a?, b?);
    let outside = b.public().to_string();
    let went = way(&session, [a, b])?;
    ensure!(went == ("public".to_owned(), outside), "{went:?}");
    Ok(())
}

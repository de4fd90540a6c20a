//! Members over IPv6, over IPv4, and of both kinds in one session.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{flow, listen};
use flowring_tests::net::await_flows;
use lab::Middlebox;
use libflow::Cube;

use super::stage::{Member, Session, await_name, exchange, only_flow, ping_error, serve};

/// A flow of each cube goes that way, and its end is told.
fn goes(a: &Member, b: &Member, way: &str, at: &str) -> Result<()> {
    for cube in [Cube::Raw, Cube::Message, Cube::Stream] {
        let name = format!("{}.{}", cube.as_str(), b.host.name());
        let listener = listen(&b.host, &name)?;
        await_name(&a.host, &name)?;
        let (asked, accepted) = flow(&a.host, &listener, cube)?;
        exchange(&asked, &accepted, cube)?;
        for host in [&a.host, &b.host] {
            let row = only_flow(host)?;
            ensure!(row["way"] == way, "{row}");
        }
        let row = only_flow(&a.host)?;
        ensure!(row["peer_address"].as_str().is_some_and(|peer| peer.starts_with(at)), "not at {at}: {row}");
        drop((asked, accepted));
        await_flows(&a.host, 0)?;
        await_flows(&b.host, 0)?;
    }
    Ok(())
}

/// Firewalls before both, as routers at home have them: their own addresses are the public ones, and nobody can be asked first.
pub(crate) fn members_meet_over_ipv6_through_both_firewalls() -> Result<()> {
    let session = Session::open()?;
    let (a, b) = (session.member6("a")?, session.member6("b")?);
    let at = format!("[{}]:", b.host.address6().context("an IPv6 address")?);
    goes(&a, &b, "public", &at)
}

/// Each meets its own kind directly. Those of the other kind it reaches through the relay, or hears why not.
pub(crate) fn members_over_ipv4_and_ipv6_share_a_session() -> Result<()> {
    let relays = Session::open_with(&["--relay"])?;
    let (a4, b4) = (relays.member("a4", Middlebox::PortRestricted)?, relays.member("b4", Middlebox::FullCone)?);
    let (a6, b6) = (relays.member6("a6")?, relays.member6("b6")?);
    goes(&a4, &b4, "public", &format!("{}:", b4.host.public()))?;
    goes(&a6, &b6, "public", &format!("[{}]:", b6.host.address6().context("an IPv6 address")?))?;
    let server6 = relays.at.address6().context("an IPv6 address")?;
    goes(&a6, &a4, "relayed", &format!("[{server6}]:"))?;
    goes(&b4, &b6, "relayed", &format!("{}:", relays.at.address()))?;
    drop((a4, b4, a6, b6));
    let session = Session::open()?;
    let (four, six) = (session.member("four", Middlebox::FullCone)?, session.member6("six")?);
    let _server = serve(&six, "echo", &[&four])?;
    let error = ping_error(&four.host, "echo")?;
    ensure!(error.contains("of the other IP version") && error.contains("a relay would do"), "{error}");
    Ok(())
}

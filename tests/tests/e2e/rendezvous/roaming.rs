//! A member whose host gets another address.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{flow, listen};
use flowring_tests::net::{SOON, await_flows, ipcp};
use lab::{Host, Middlebox};
use libflow::Cube;

use super::stage::{
    Member, Session, await_name, await_session, enroll_with, exchange, member_step, only_flow, ping, serve, words,
};

/// `ip` at a host.
pub(super) fn ip(host: &Host, line: &str) -> Result<()> {
    let output = host.run("ip", &line.split(' ').collect::<Vec<_>>())?;
    ensure!(output.code() == 0, "ip {line}: {}", output.err);
    Ok(())
}

/// The host is somewhere else: its address is gone, and it has another.
fn goes_elsewhere(host: &Host, to: &str) -> Result<()> {
    goes_from(host, &host.address().to_string(), to)
}

/// The same of one that was somewhere else already.
pub(super) fn goes_from(host: &Host, before: &str, to: &str) -> Result<()> {
    ip(host, &format!("address add {to}/24 dev eth0"))?;
    // Without its secondary ones: they would go with it.
    host.inside(|| std::fs::write("/proc/sys/net/ipv4/conf/all/promote_secondaries", "1"))??;
    ip(host, &format!("address del {before}/24 dev eth0"))
}

pub(super) fn is_at(host: &Host, address: &str) -> Result<()> {
    lab::wait_until(SOON, &format!("{} to be at {address}", host.name()), || {
        ipcp(host).is_ok_and(|row| row["address"].as_str().is_some_and(|at| at.starts_with(&format!("{address}:"))))
    })
    .with_context(|| words(host).unwrap_or_default())
}

/// It is seen there, has its names there, asks and is asked from there. A raw flow that was open ends on both sides with the reason,
/// without anybody's timeout; a stream flow goes along.
pub(crate) fn a_member_follows_its_host_to_another_address() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let [host] = session.lab.hosts(["b"])?;
    let b = session.enroll(host, std::time::Duration::ZERO)?;
    let servers = [serve(&b, "b.chat", &[&a])?, serve(&a, "a.chat", &[&b])?];
    let listeners = [listen(&b.host, "raw.b")?, listen(&b.host, "stream.b")?];
    for listener in &listeners {
        await_name(&a.host, listener.name())?;
    }
    let raw = flow(&a.host, &listeners[0], Cube::Raw)?;
    exchange(&raw.0, &raw.1, Cube::Raw)?;
    let stream = flow(&a.host, &listeners[1], Cube::Stream)?;
    exchange(&stream.0, &stream.1, Cube::Stream)?;
    goes_elsewhere(&b.host, "10.0.0.77")?;
    is_at(&b.host, "10.0.0.77")?;
    await_session(&b.host, "seen as 10.0.0.77:")?;
    let ends = |it: &libflow::blocking::Flow| it.recv_within(&mut [0; 64], SOON).err().map(|it| it.to_string());
    let [at_a, at_b] = [&raw.0, &raw.1].map(ends).map(Option::unwrap_or_default);
    ensure!(at_b.contains("another address"), "at b: {at_b}");
    ensure!(at_a.contains("peer"), "at a: {at_a}");
    exchange(&stream.0, &stream.1, Cube::Stream)?;
    drop((raw, stream));
    await_flows(&a.host, 0)?;
    await_flows(&b.host, 0)?;
    // Both ways, and from the list that the others have.
    ping(&b.host, "a.chat", 3)?;
    lab::wait_until(SOON, "a to know where b is", || {
        member_step(&a.host, "b.chat").is_ok_and(|step| step["hosts"].to_string().contains("10.0.0.77:"))
    })?;
    let mut running = a.host.start("oping", &["b.chat", "-i", "0.05"])?;
    running.expect_line(SOON, "seq=3")?;
    let row = only_flow(&a.host)?;
    ensure!(row["peer_address"].as_str().is_some_and(|at| at.starts_with("10.0.0.77:")), "{row}");
    running.signal(lab::Signal::INT)?;
    running.wait(SOON)?;
    drop(servers);
    its_ipcp_comes_back_there(&b)
}

/// irmd starts it again with what it was told long ago: the address of that time is no more.
fn its_ipcp_comes_back_there(b: &Member) -> Result<()> {
    let pid = ipcp(&b.host)?["pid"].as_i64().context("a pid")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    rustix::process::kill_process(pid, lab::Signal::KILL)?;
    lab::wait_until(SOON, "another ipcpd", || {
        ipcp(&b.host).is_ok_and(|row| row["restarts"] == 1 && row["state"] == "operational")
    })?;
    is_at(&b.host, "10.0.0.77")?;
    await_session(&b.host, "seen as 10.0.0.77:")
}

/// With --ip the layer is on that address and no other, whichever reaches the rendezvous.
pub(crate) fn an_address_that_was_given_stays() -> Result<()> {
    let session = Session::open()?;
    let [host] = session.lab.hosts(["b"])?;
    let _irmd = host.irmd().start()?;
    let own = host.address().to_string();
    enroll_with(&host, &session.via(), &session.key, &["--ip", &own])?;
    await_session(&host, &format!("seen as {own}:"))?;
    // Another address is preferred from now on, and the given one is still there.
    ip(&host, "address add 10.0.0.78/24 dev eth0")?;
    ip(&host, &format!("route replace {}/32 dev eth0 src 10.0.0.78", session.at.address()))?;
    // A host beside it that follows has gone there by then.
    let [beside] = session.lab.hosts(["beside"])?;
    let follows = session.enroll(beside, std::time::Duration::ZERO)?;
    ip(&follows.host, "address add 10.0.0.79/24 dev eth0")?;
    ip(&follows.host, &format!("route replace {}/32 dev eth0 src 10.0.0.79", session.at.address()))?;
    await_session(&follows.host, "seen as 10.0.0.79:")?;
    is_at(&host, &own)?;
    ensure!(words(&host)?.contains(&format!("seen as {own}:")), "{}", words(&host)?);
    Ok(())
}

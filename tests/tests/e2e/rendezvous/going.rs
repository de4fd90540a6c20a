//! Open message and stream flows whose hosts, or whose paths, change: they go on, whole.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{flow, listen};
use flowring_tests::net::{SOON, await_flows};
use lab::{Host, Middlebox};
use libflow::Cube;

use super::moves::{Carried, Ends, await_rows, carrying_over, count, restart_ipcpd};
use super::roaming::{goes_from, is_at};
use super::stage::{Member, Session, await_name, await_session, await_survey};

/// Seconds in which a path may be missing, for each time that one ends.
const GAP: u64 = 15;

/// A stream flow and a message flow from a to b.
fn two_flows(a: &Member, b: &Member) -> Result<[Ends; 2]> {
    let ends = |cube: Cube| -> Result<Ends> {
        let listener = listen(&b.host, &format!("{}.{}", cube.as_str(), b.host.name()))?;
        await_name(&a.host, listener.name())?;
        flow(&a.host, &listener, cube)
    };
    Ok([ends(Cube::Stream)?, ends(Cube::Message)?])
}

/// All flows of the host are listed with a peer, and an end of their own, at these addresses.
fn are_between(host: &Host, own: &str, peer: &str) -> Result<()> {
    let is = |row: &serde_json::Value, key: &str, at: &str| {
        row[key].as_str().is_some_and(|it| it.starts_with(&format!("{at}:")))
    };
    let all = |row: &serde_json::Value| is(row, "local_address", own) && is(row, "peer_address", peer);
    lab::wait_until(3 * SOON, &format!("{}'s flows to be between {own} and {peer}", host.name()), || {
        await_rows(host).is_ok_and(|rows| rows.len() == 2 && rows.iter().all(all))
    })
    .with_context(|| format!("{:?}", await_rows(host)))
}

/// All flows of the host go this way.
fn are_relayed(host: &Host, relayed: bool) -> Result<()> {
    let what = if relayed { "relayed" } else { "direct" };
    lab::wait_until(4 * SOON, &format!("{}'s flows to be {what}", host.name()), || {
        await_rows(host)
            .is_ok_and(|rows| rows.len() == 2 && rows.iter().all(|row| (row["way"] == "relayed") == relayed))
    })
    .with_context(|| format!("{:?}", await_rows(host)))
}

/// What libflow says of where the peer is.
fn peers_are_at(flows: &[&libflow::blocking::Flow], address: &str) -> Result<()> {
    for flow in flows {
        let at = flow.peer().address;
        ensure!(at.starts_with(&format!("{address}:")), "the peer is at {at}, not {address}");
    }
    Ok(())
}

/// One behind a NAT asked one behind nothing. The one that was asked goes elsewhere, the asker does, both do at once; then both
/// ipcpds die and take back what they find.
pub(crate) fn flows_go_along_with_their_hosts() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let [host] = session.lab.hosts(["b"])?;
    let b = session.enroll(host, Duration::ZERO)?;
    let [streams, messages] = two_flows(&a, &b)?;
    let (inside, public) = (a.host.address().to_string(), a.host.public().to_string());
    let near = |last: u8| format!("{}.{last}", inside.rsplit_once('.').map_or("", |(net, _)| net));
    carrying_over(3 * GAP, &streams, &messages, |carried| {
        carried.goes_on()?;
        goes_from(&b.host, &b.host.address().to_string(), "10.0.0.77")?;
        are_between(&a.host, &inside, "10.0.0.77")?;
        are_between(&b.host, "10.0.0.77", &public)?;
        peers_are_at(&[&streams.0, &messages.0], "10.0.0.77")?;
        carried.goes_on()?;
        goes_from(&a.host, &inside, &near(77))?;
        are_between(&a.host, &near(77), "10.0.0.77")?;
        carried.goes_on()?;
        goes_from(&a.host, &near(77), &near(78))?;
        goes_from(&b.host, "10.0.0.77", "10.0.0.78")?;
        are_between(&a.host, &near(78), "10.0.0.78")?;
        are_between(&b.host, "10.0.0.78", &public)?;
        carried.goes_on()?;
        restart_ipcpd(&a)?;
        restart_ipcpd(&b)?;
        are_between(&a.host, &near(78), "10.0.0.78")?;
        are_between(&b.host, "10.0.0.78", &public)?;
        carried.goes_on()?;
        // And from there once more, as the daemons know it now.
        goes_from(&b.host, "10.0.0.78", "10.0.0.79")?;
        are_between(&a.host, &near(78), "10.0.0.79")?;
        carried.goes_on()
    })?;
    drop((streams, messages));
    await_flows(&a.host, 0)?;
    await_flows(&b.host, 0).map(drop)
}

/// Both are behind NATs that let in only what answers something.
pub(crate) fn flows_of_hosts_behind_nats_go_along() -> Result<()> {
    let session = Session::open()?;
    let members = [session.member("a", Middlebox::PortRestricted)?, session.member("b", Middlebox::PortRestricted)?];
    let [streams, messages] = two_flows(&members[0], &members[1])?;
    let [a, b] = members.each_ref().map(|member| member.host.address().to_string());
    let near = |at: &str| format!("{}.77", at.rsplit_once('.').map_or("", |(net, _)| net));
    let [public_a, public_b] = members.each_ref().map(|member| member.host.public().to_string());
    carrying_over(2 * GAP, &streams, &messages, |carried| {
        carried.goes_on()?;
        goes_from(&members[1].host, &b, &near(&b))?;
        is_at(&members[1].host, &near(&b))?;
        are_between(&members[1].host, &near(&b), &public_a)?;
        carried.goes_on()?;
        goes_from(&members[0].host, &a, &near(&a))?;
        is_at(&members[0].host, &near(&a))?;
        are_between(&members[0].host, &near(&a), &public_b)?;
        carried.goes_on()
    })
}

/// From where it is now, the asker reaches the other through the relay only: what it sends goes as fast as the relay lets it, at once.
/// There it goes along, too, over a restart of both ipcpds, and back to a direct path.
pub(crate) fn flows_go_to_the_relay_where_nothing_else_works_and_from_there() -> Result<()> {
    let session = Session::open_with(&["--relay"])?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    let [streams, messages] = two_flows(&a, &b)?;
    let inside = a.host.address().to_string();
    let near = |last: u8| format!("{}.{last}", inside.rsplit_once('.').map_or("", |(net, _)| net));
    let relay = session.at.address().to_string();
    carrying_over(4 * GAP, &streams, &messages, |carried| {
        carried.goes_on()?;
        for host in [&a.host, &b.host] {
            are_relayed(host, false)?;
        }
        a.host.change_middlebox(Middlebox::SymmetricRandom)?;
        goes_from(&a.host, &inside, &near(77))?;
        for host in [&a.host, &b.host] {
            are_relayed(host, true)?;
        }
        carried.goes_on()?;
        goes_from(&a.host, &near(77), &near(78))?;
        is_at(&a.host, &near(78))?;
        are_between(&a.host, &near(78), &relay)?;
        carried.goes_on()?;
        restart_ipcpd(&a)?;
        restart_ipcpd(&b)?;
        carried.goes_on()?;
        a.host.change_middlebox(Middlebox::PortRestricted)?;
        a.host.forget_mappings()?;
        for host in [&a.host, &b.host] {
            are_relayed(host, false)?;
        }
        carried.goes_on()
    })
}

/// Nobody goes anywhere; one's box forgets all that it knew, and is another from then on.
pub(crate) fn a_direct_path_that_ends_is_not_the_flow_s_end() -> Result<()> {
    let session = Session::open_with(&["--relay"])?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    let [streams, messages] = two_flows(&a, &b)?;
    let before = count(&a.host, "paths_moved")?;
    carrying_over(2 * GAP, &streams, &messages, |carried: &Carried| {
        carried.goes_on()?;
        b.host.change_middlebox(Middlebox::SymmetricRandom)?;
        b.host.forget_mappings()?;
        for host in [&a.host, &b.host] {
            are_relayed(host, true)?;
        }
        carried.goes_on()
    })?;
    ensure!(count(&a.host, "paths_moved")? > before, "they moved");
    Ok(())
}

/// No relay, and no direct path from there: the end comes with the reason, in time.
pub(crate) fn a_flow_that_cannot_go_along_ends_with_that_reason() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    await_survey(&a.host)?;
    let listener = listen(&b.host, "stream.b")?;
    await_name(&a.host, listener.name())?;
    let (asked, accepted) = flow(&a.host, &listener, Cube::Stream)?;
    a.host.change_middlebox(Middlebox::SymmetricRandom)?;
    let inside = a.host.address().to_string();
    goes_from(&a.host, &inside, &format!("{}.77", inside.rsplit_once('.').map_or("", |(net, _)| net)))?;
    await_session(&a.host, "joined session")?;
    lab::wait_until(4 * SOON, "the flow to be over", || await_rows(&a.host).is_ok_and(|rows| rows.is_empty()))
        .with_context(|| format!("{:?}", await_rows(&a.host)))?;
    let ends = [asked.accept_stream(), accepted.accept_stream()].map(|it| it.err().map(|it| it.to_string()));
    let [at_a, at_b] = ends.map(Option::unwrap_or_default);
    ensure!(at_a.contains("another address"), "at a: {at_a}");
    ensure!(at_b.contains("silent"), "at b: {at_b}");
    await_flows(&a.host, 0)?;
    await_flows(&b.host, 0).map(drop)
}

//! NATs that give each mapping another port: in a row, so that the next one is predicted; at random, so that it is searched for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::{flow, listen};
use flowring_tests::net::ipcp;
use lab::Middlebox;
use libflow::Cube;

use super::stage::{Member, Session, await_name, await_session, await_survey, exchange, only_flow, ping_error, serve};

/// How a flow of each kind goes from one to the other: as the asker has it, and as the other has it.
fn goes(from: &Member, to: &Member, name: &str, want: [&str; 2]) -> Result<()> {
    for cube in [Cube::Raw, Cube::Stream] {
        let name = format!("{}.{name}", cube.as_str());
        let listener = listen(&to.host, &name)?;
        await_name(&from.host, &name)?;
        let (asked, accepted) = flow(&from.host, &listener, cube)?;
        exchange(&asked, &accepted, cube)?;
        let ways = [only_flow(&from.host)?, only_flow(&to.host)?].map(|row| row["way"].as_str().map(str::to_owned));
        ensure!(ways == want.map(|way| Some(way.to_owned())), "{name}: {ways:?}");
        drop((asked, accepted));
        for host in [&from.host, &to.host] {
            flowring_tests::net::await_flows(host, 0)?;
        }
    }
    Ok(())
}

pub(crate) fn ports_in_a_row_are_predicted() -> Result<()> {
    let session = Session::open()?;
    let counts = session.member("counts", Middlebox::SymmetricSequential)?;
    await_session(&counts.host, "its ports in steps of 1, that filters by port")?;
    for kind in [Middlebox::PortRestricted, Middlebox::Firewall] {
        let strict = session.member(kind.name(), kind)?;
        await_survey(&strict.host)?;
        goes(&counts, &strict, &format!("to-{kind}"), ["public", "predicted"])?;
        goes(&strict, &counts, &format!("from-{kind}"), ["predicted", "public"])?;
    }
    Ok(())
}

/// Who is told not to stays as it was, and is told that it would do.
pub(crate) fn ports_are_not_predicted_where_that_is_off() -> Result<()> {
    let session = Session::open()?;
    let counts = session.member_with("counts", Middlebox::SymmetricSequential, &["--punch", "plain"])?;
    let strict = session.member("strict", Middlebox::PortRestricted)?;
    for member in [&counts, &strict] {
        await_survey(&member.host)?;
    }
    let _server = serve(&strict, "echo", &[&counts])?;
    let words = ping_error(&counts.host, "echo")?;
    ensure!(words.contains("so might prediction") && !words.contains("in steps of"), "{words}");
    Ok(())
}

/// Descriptors that a host's ipcpd-udp has open.
fn descriptors(member: &Member) -> Result<usize> {
    let pid = ipcp(&member.host)?["pid"].as_u64().context("pid")?;
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// What an ipcpd-udp has counted.
fn counted(member: &Member, name: &str) -> Result<u64> {
    Ok(ipcp(&member.host)?["counters"][name].as_u64().unwrap_or(0))
}

/// The odds are 98 in 100 for each search.
const LONG: Duration = Duration::from_secs(40);

/// A flow, though the first search for it may find nothing.
fn searched(from: &Member, to: &Member, name: &str, cube: Cube, want: [&str; 2]) -> Result<()> {
    let listener = listen(&to.host, name)?;
    await_name(&from.host, name)?;
    let before = (descriptors(from)?, descriptors(to)?);
    let mut found = None;
    lab::wait_until(2 * LONG, "a search that finds a path", || {
        found = flow(&from.host, &listener, cube).ok();
        found.is_some()
    })?;
    let (asked, accepted) = found.context("a flow")?;
    exchange(&asked, &accepted, cube)?;
    let ways = [only_flow(&from.host)?, only_flow(&to.host)?].map(|row| row["way"].as_str().map(str::to_owned));
    ensure!(ways == want.map(|way| Some(way.to_owned())), "{name}: {ways:?}");
    ensure!(counted(from, "paths_searched")? > 0 && counted(to, "paths_searched")? > 0, "nobody searched");
    drop((asked, accepted));
    let returned = || descriptors(from).ok() <= Some(before.0 + 2) && descriptors(to).ok() <= Some(before.1 + 2);
    lab::wait_until(LONG, "all sockets to be closed", returned)
}

pub(crate) fn ports_at_random_are_searched_for() -> Result<()> {
    let session = Session::open()?;
    let dice = session.member_with("dice", Middlebox::SymmetricRandom, &["--punch", "search"])?;
    let strict = session.member_with("strict", Middlebox::PortRestricted, &["--punch", "search"])?;
    for member in [&dice, &strict] {
        await_survey(&member.host)?;
    }
    searched(&dice, &strict, "raw.strict", Cube::Raw, ["public", "mapped"])?;
    searched(&strict, &dice, "stream.dice", Cube::Stream, ["mapped", "public"])
}

/// Two sides whose ports are dice: no search would do. And where there is a relay, that is asked and nothing is searched.
pub(crate) fn nothing_is_searched_in_vain() -> Result<()> {
    for words in [&[][..], &["--relay"]] {
        let session = Session::open_with(words)?;
        let member = |name, kind| session.member_with(name, kind, &["--punch", "search"]);
        let asker = member("asker", Middlebox::SymmetricRandom)?;
        let other = if words.is_empty() { Middlebox::SymmetricRandom } else { Middlebox::PortRestricted };
        let asked = member("asked", other)?;
        for member in [&asker, &asked] {
            await_survey(&member.host)?;
        }
        if words.is_empty() {
            let _server = serve(&asked, "echo", &[&asker])?;
            let said = ping_error(&asker.host, "echo")?;
            ensure!(said.contains("a relay would do") && !said.contains("search"), "{said}");
        } else {
            let listener = listen(&asked.host, "echo")?;
            await_name(&asker.host, "echo")?;
            let _flow = flow(&asker.host, &listener, Cube::Raw)?;
            ensure!(only_flow(&asker.host)?["way"] == "relayed");
        }
        ensure!(counted(&asker, "paths_searched")? + counted(&asked, "paths_searched")? == 0, "somebody searched");
    }
    Ok(())
}

//! NATs that give each mapping another port: in a row, so that the next one is predicted; at random, so that it is searched for.

use anyhow::{Result, ensure};
use flowring_tests::flows::{flow, listen};
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
    ensure!(words.contains("cannot be punched") && !words.contains("in steps of"), "{words}");
    Ok(())
}

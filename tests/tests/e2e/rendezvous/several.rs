//! Names that several members have, and sessions that have no room for one more.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::flows::stack;
use flowring_tests::net::{SOON, ipcp};
use lab::{Middlebox, Signal};

use super::stage::{Member, Session, await_session, enroll, member_step, ping_error, serve};

/// An asker that has to ask another member is still served within this, and one that waits for the first is not.
const PATIENCE: Duration = Duration::from_secs(4);

/// All of a host's daemons end without a word. Nothing starts them again.
fn kill(member: &mut Member) -> Result<()> {
    let pid = ipcp(&member.host)?["pid"].as_i64().context("a pid")?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    member.irmd.process().kill()?;
    Ok(rustix::process::kill_process(pid, Signal::KILL)?)
}

/// The server takes it for a member for a while: whoever asks for the name is sent to it, waits for a moment, and gets the other.
pub(crate) fn a_name_of_two_members_is_had_where_one_was_killed() -> Result<()> {
    let session = Session::open()?;
    let a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::PortRestricted)?;
    let mut c = session.member("c", Middlebox::FullCone)?;
    let servers = [serve(&b, "echo", &[&a])?, serve(&c, "echo", &[&a])?];
    lab::wait_until(SOON, "both to be known for the name", || {
        member_step(&a.host, "echo").is_ok_and(|step| step["hosts"].as_array().is_some_and(|hosts| hosts.len() == 2))
    })?;
    kill(&mut c)?;
    let asking = stack(&a.host)?;
    // Which of the two is asked first is a matter of chance, until the dead one was.
    for _ in 0..40 {
        let flow = asking.alloc("echo").timeout(PATIENCE).wait()?;
        ensure!(flow.peer().address.starts_with(&format!("{}:", b.host.public())), "{:?}", flow.peer());
        if session.status()?["counts"]["passed_on"] != 0 {
            break;
        }
    }
    let status = session.status()?;
    let passed = |status: &serde_json::Value| status["counts"]["passed_on"].as_u64().context("a count");
    let before = passed(&status)?;
    ensure!(before > 0, "the one that was killed was never asked: {status}");
    ensure!(status["members"] == 3, "the server knows that it ended: this shows nothing");
    // From now on it is asked last. By chance it would be half of the time.
    for _ in 0..16 {
        asking.alloc("echo").timeout(PATIENCE).wait()?;
    }
    ensure!(passed(&session.status()?)? <= before + 2, "{}", session.status()?);
    drop(servers);
    Ok(())
}

/// The one too many is told, in its listing, its log and its programs' errors, and is in as soon as there is room.
pub(crate) fn a_session_that_is_full_says_so_until_one_leaves() -> Result<()> {
    let session = Session::open_as("[limits]\nmembers = 2\n", &[])?;
    let _a = session.member("a", Middlebox::PortRestricted)?;
    let b = session.member("b", Middlebox::Open)?;
    let host = session.lab.host_behind("c", Middlebox::PortRestricted)?;
    let _irmd = host.irmd().start()?;
    enroll(&host, &session.via(), &session.key)?;
    await_session(&host, "has no room for another member")?;
    let error = ping_error(&host, "echo")?;
    ensure!(error.contains("has no room for another member") && error.contains("raise members"), "{error}");
    b.host.irm(&["ipcp", "destroy", "--name", "udp0"])?;
    lab::wait_until(3 * SOON, "the third to be let in", || {
        super::stage::words(&host).is_ok_and(|words| words.contains("joined session"))
    })
}

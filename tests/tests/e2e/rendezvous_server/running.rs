//! How it is run: reloads, its end, its addresses, its metrics.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::SOON;
use lab::{Deadline, Lab, Signal};
use proto::rendezvous::{Head, PORT, Said};

use super::member::{Member, SECRET, Server, config, told};
use crate::forward_ops::stage::metrics;

pub(super) fn sessions_come_and_go_by_reload() -> Result<()> {
    let lab = Lab::new()?;
    let [host, a] = lab.hosts(["server", "a"])?;
    let server = Server::start(&host, "metrics = \"127.0.0.1:9108\"\n")?;
    let mut alice = Member::new(&a, server.at(), 1)?;
    let epoch = alice.join()?.seen.epoch;
    let second = "[[session]]\nname = \"second\"\nkey-file = \"lobby.key\"\n";
    config(&host, second)?;
    server.running.signal(Signal::HUP)?;
    server.running.expect_log(SOON, "reloaded: 2 sessions")?;
    let mut bob = Member::of(a.socket(0)?, server.at(), 2, "second", SECRET)?;
    bob.join()?;
    ensure!(alice.join()?.seen.epoch == epoch, "the session was begun anew");
    // A file that is wrong changes nothing.
    config(&host, "[[session]]\nname = \"lobby\"\nkey-file = \"lobby.key\"\n")?;
    let wrong = host.run("rendezvous", &["reload"])?;
    ensure!(
        wrong.code() == 1 && wrong.err.contains("rendezvous.toml:6:8: the session lobby is there twice"),
        "{}",
        wrong.err
    );
    ensure!(bob.join().is_ok(), "the session second is gone");
    // Without its session a member is a stranger.
    config(&host, "")?;
    let right = host.run("rendezvous", &["reload"])?;
    ensure!(right.code() == 0 && right.out.trim() == "1 session", "{} {}", right.out, right.err);
    let answer = bob.ask(server.at(), Member::join_said, |_: &Head, said| Some(said))?;
    ensure!(answer == Said::Unknown, "{answer:?}");
    let page = metrics(&host, "127.0.0.1:9108".parse()?)?;
    for line in ["rendezvous_members 1", "rendezvous_reloads_total{result=\"failed\"} 1"] {
        ensure!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
    }
    Ok(())
}

pub(super) fn a_rendezvous_that_is_stopped_finishes_what_it_began() -> Result<()> {
    let lab = Lab::new()?;
    let [host, a, b] = lab.hosts(["server", "a", "b"])?;
    let mut server = Server::start(&host, "drain = \"20s\"\n")?;
    let mut alice = Member::new(&a, server.at(), 1)?;
    let mut bob = Member::new(&b, server.at(), 2)?.named(&["bob.chat"]);
    alice.join()?;
    bob.join()?;
    let mut cp = alice.flow(&a)?;
    let said = cp.introduce(7, "bob.chat")?;
    ensure!(said == Said::Introducing, "{said:?}");
    let introduction = bob.introduction()?;
    server.running.signal(Signal::TERM)?;
    server.running.expect_log(SOON, "stopping")?;
    // Nobody new; those who are there may go on.
    let mut late = Member::new(&b, server.at(), 3)?;
    let full = late.ask(server.at(), Member::join_said, |_: &Head, said| Some(said))?;
    ensure!(matches!(full, Said::NotIntroduced(_)), "{full:?}");
    ensure!(server.status(&[])?["stopping"] == true, "it is not stopping");
    bob.flow(&b)?.meet(9, &introduction)?;
    let output = server.running.wait(SOON)?;
    ensure!(output.code() == 0, "it ended with {}: {}", output.code(), output.err);
    let gone = host.run("rendezvous", &["status"])?;
    ensure!(gone.code() == 3 && gone.err.contains("no rendezvous runs on"), "{} {}", gone.code(), gone.err);
    Ok(())
}

pub(super) fn a_rendezvous_serves_both_kinds_of_addresses() -> Result<()> {
    let lab = Lab::new()?;
    let [host, a] = lab.hosts(["server", "a"])?;
    // One socket for both, and two.
    for listen in ["[\"[::]\"]", "[\"0.0.0.0\", \"[fd00::1]:3360\"]"] {
        let mut server = Server::start(&host, &format!("listen = {listen}\n"))?;
        let (four, six) = (host.address(), host.address6().context("IPv6")?);
        let mut alice = Member::new(&a, std::net::SocketAddr::new(four, PORT), 1)?;
        let address = a.address6().context("IPv6")?;
        #[expect(clippy::disallowed_methods, reason = "a socket of IPv6")]
        let socket = a.inside(|| std::net::UdpSocket::bind((address, 0)))??;
        let mut bob = Member::of(socket, std::net::SocketAddr::new(six, PORT), 2, "lobby", SECRET)?;
        let joined = alice.join()?;
        ensure!(joined.public == alice.local()?, "{listen}: {}", joined.public);
        let joined = bob.join()?;
        ensure!(joined.public == bob.local()? && told(&joined) == ["+1"], "{listen}: {joined:?}");
        let deadline = Deadline::after(SOON);
        let news = loop {
            if let Some((_, said)) = alice.hear()? {
                break said;
            }
            ensure!(!deadline.is_past(), "{listen}: no news");
        };
        ensure!(matches!(news, Said::News(_)), "{news:?}");
        server.running.signal(Signal::TERM)?;
        ensure!(server.running.wait(SOON)?.code() == 0, "it did not end well");
    }
    Ok(())
}

pub(super) fn a_session_on_the_command_line_needs_no_file() -> Result<()> {
    let lab = Lab::new()?;
    let [host, a] = lab.hosts(["server", "a"])?;
    let path = host.run_dir().join("made.key").to_str().context("a path")?.to_owned();
    let words = ["--session", "lobby", "--key-file", &path];
    let missing = host.run("rendezvous", &words)?;
    ensure!(missing.code() == 1 && missing.err.contains("make one with rendezvous key"), "{}", missing.err);
    let made = host.run("rendezvous", &["key", &path])?;
    ensure!(made.code() == 0, "{}", made.err);
    let server = Server::with(&host, &words)?;
    let secret = std::fs::read_to_string(&path)?;
    let mut alice = Member::of(a.socket(0)?, server.at(), 1, "lobby", &secret)?;
    ensure!(alice.join()?.public == alice.local()?, "it is seen elsewhere");
    let taken = host.run("rendezvous", &words)?;
    ensure!(taken.code() == 1 && taken.err.contains("0.0.0.0:3360 cannot be listened at"), "{}", taken.err);
    Ok(())
}

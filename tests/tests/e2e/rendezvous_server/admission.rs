//! Who is let in, who is not, and what strangers cost.

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::SOON;
use lab::{Deadline, Lab};
use proto::rendezvous::{Head, Said};

use super::member::{Member, SECRET, Server, told};

/// JOINs of the flood.
const FLOOD: u64 = 30_000;
/// And of one turn of it.
const TURN: u64 = 1_000;

pub(super) fn a_silent_member_is_forgotten_and_the_others_hear_of_it() -> Result<()> {
    let lab = Lab::new()?;
    let [host, a, b] = lab.hosts(["server", "a", "b"])?;
    let server = Server::start(&host, "[limits]\nrefresh = \"1s\"\n")?;
    let mut alice = Member::new(&a, server.at(), 1)?;
    let mut bob = Member::new(&b, server.at(), 2)?.named(&["bob.chat"]);
    alice.join()?;
    bob.join()?;
    let mut all = Vec::new();
    let deadline = Deadline::after(SOON);
    // Alice is heard all the time, Bob never again.
    while !all.iter().any(|change| change == "-2") {
        ensure!(!deadline.is_past(), "{all:?}");
        all.extend(told(&alice.join()?));
        let news = alice.hear()?;
        ensure!(matches!(news, None | Some((_, Said::News(_)))), "{news:?}");
    }
    ensure!(all == ["+2", "+2:bob.chat", "-2"], "{all:?}");
    server.running.expect_log(SOON, "a member was silent for too long")?;
    let status = server.status(&["--session", "lobby"])?;
    ensure!(status["members"] == 1 && status["counts"]["silent"] == 1, "{status}");
    Ok(())
}

pub(super) fn a_restarted_rendezvous_has_its_members_again() -> Result<()> {
    let lab = Lab::new()?;
    let [host, a, b] = lab.hosts(["server", "a", "b"])?;
    let mut server = Server::start(&host, "")?;
    let mut alice = Member::new(&a, server.at(), 1)?;
    let mut bob = Member::new(&b, server.at(), 2)?.named(&["bob.chat"]);
    bob.join()?;
    let before = alice.join()?;
    ensure!(told(&before) == ["+2", "+2:bob.chat"], "{before:?}");
    server.running.kill()?;
    server.running = Server::start(&host, "")?.running;
    let anew = alice.join()?;
    ensure!(anew.reset && anew.changes.is_empty() && anew.seen.epoch != before.seen.epoch, "{anew:?}");
    // The server has none of Bob's names; Bob names them anew.
    bob.join()?;
    bob.join()?;
    let changes = told(&alice.join()?);
    ensure!(changes == ["+2", "+2:bob.chat"], "{changes:?}");
    Ok(())
}

pub(super) fn a_wrong_key_gets_what_an_unknown_session_gets() -> Result<()> {
    let lab = Lab::new()?;
    let [host, a] = lab.hosts(["server", "a"])?;
    let server = Server::start(&host, "")?;
    for (session, secret) in [("lobby", "another key that is long enough"), ("nowhere", SECRET)] {
        let mut member = Member::of(a.socket(0)?, server.at(), 1, session, secret)?;
        let answer = member.ask(server.at(), Member::join_said, |_: &Head, said| Some(said))?;
        ensure!(answer == Said::Unknown, "{session}: {answer:?}");
    }
    let status = server.status(&[])?;
    let counts = &status["counts"];
    ensure!(counts["wrong_keys"] == 1 && counts["unknown_sessions"] == 1 && status["members"] == 0, "{status}");
    Ok(())
}

pub(super) fn a_flood_of_joins_is_not_amplified_and_hurts_nobody() -> Result<()> {
    let lab = Lab::new()?;
    let [host, a, forger] = lab.hosts(["server", "a", "forger"])?;
    // A network of its own: limits are for networks.
    forger.run("ip", &["addr", "add", "10.1.7.1/32", "dev", "eth0"])?;
    host.run("ip", &["route", "add", "10.1.7.0/24", "via", &forger.address().to_string()])?;
    let server = Server::start(&host, "")?;
    let mut alice = Member::new(&a, server.at(), 1)?;
    alice.join()?;
    let rss = |status: &serde_json::Value| status["rss_bytes"].as_u64().context("rss_bytes");
    let before = rss(&server.status(&[])?)?;
    #[expect(clippy::disallowed_methods, reason = "a socket at an address of its own")]
    let socket = forger.inside(|| std::net::UdpSocket::bind("10.1.7.1:0"))?.context("10.1.7.1")?;
    socket.set_nonblocking(true)?;
    let mut stranger = Member::of(socket, server.at(), 9, "lobby", SECRET)?;
    let (mut sent, mut came) = (0, 0);
    let mut drain = |stranger: &Member| {
        let mut buffer = [0; 2048];
        while let Ok(length) = stranger.socket.recv(&mut buffer) {
            came += length as u64;
        }
    };
    for turn in 0..FLOOD / TURN {
        for _ in 0..TURN {
            // Each another host, and none with a cookie.
            stranger.host.0 += 1;
            let (id, said) = stranger.join_said();
            if let Ok(length) = stranger.socket.send_to(&stranger.bytes(id, &said), server.at()) {
                sent += length as u64;
            }
        }
        drain(&stranger);
        alice.join().with_context(|| format!("Alice in turn {turn}"))?;
    }
    let status = server.status(&[])?;
    drain(&stranger);
    ensure!(came > 0 && came * 10 < sent, "{came} bytes came back for {sent}");
    ensure!(status["members"] == 1, "{status}");
    let counts = (status["counts"]["cookies"].as_u64(), status["dropped"]["rate"].as_u64());
    ensure!(counts.0.is_some_and(|cookies| cookies < FLOOD) && counts.1.is_some_and(|rate| rate > 0), "{counts:?}");
    let grown = rss(&status)?.saturating_sub(before);
    ensure!(grown < 8 << 20, "the server has grown by {grown} bytes");
    Ok(())
}

//! Rules that change, names that are not found, the end.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use flowring_tests::net::SOON;
use lab::Signal;

use super::stage::{Quake, Stage, await_status, hears_nothing, local, round_trip, rules, status, udp};

pub(super) fn other_rules_of_a_game_keep_who_may_stay() -> Result<()> {
    let stage = Stage::up()?;
    let (one, two) = (Quake::at(&stage.b, 27910, "one")?, Quake::at(&stage.b, 27911, "two")?);
    let to = |game: &Quake| format!("{} {}", game.at.ip(), game.at.port());
    let me = stage.b.address();
    let before = format!(
        "global allow *\nredirect * port 1 to {}\nredirect * port 2 to {}\nredirect * port 3 to {}\n",
        to(&one),
        to(&one),
        to(&one)
    );
    let proxy = local(&stage.a, &before, &["--watch"])?;
    let at = |port| SocketAddr::new(stage.a.address(), port);
    let (stays, moves, goes, denied) = (udp(&stage.b, 0)?, udp(&stage.b, 0)?, udp(&stage.b, 0)?, udp(&stage.b, 4000)?);
    for (player, port) in [(&stays, 1), (&moves, 2), (&goes, 3), (&denied, 1)] {
        ensure!(round_trip(player, at(port), b"hello")? == b"one:hello");
    }
    let upstream = |game: &Quake, said: &[u8]| game.heard.iter().find(|heard| heard.1 == said).map(|heard| heard.0);
    ensure!(round_trip(&stays, at(1), b"before")? == b"one:before");
    let port_before = upstream(&one, b"before");

    // Wrong: all stays as it was, and who asked is told.
    rules(&stage.a, "global allow *\nredirct * port 1 to a 2\n")?;
    let output = stage.a.run("gameproxy", &["reload"])?;
    ensure!(output.code() == 1 && output.err.contains(":2:1: 'redirct' stands where"), "{}", output.err);
    ensure!(status(&stage.a, "local")?["reload_failed"].as_str().is_some_and(|why| why.contains("redirct")));
    ensure!(round_trip(&stays, at(1), b"hello")? == b"one:hello");

    let after = format!(
        "global deny {me} port 4000 global allow *\nredirect * port 2 to {}\nredirect * port 1 to {}\nredirect * port 4 to {}\n",
        to(&two),
        to(&one),
        to(&two)
    );
    rules(&stage.a, &after)?;
    // Read because it changed; asked for, too, it is the same.
    proxy.expect_log(SOON, "reloaded: 3 redirects")?;
    ensure!(stage.a.run("gameproxy", &["reload"])?.code() == 0);
    await_status(&stage.a, "local", "the ports to be others", |status| {
        status["ports"].as_array().is_some_and(|ports| ports.len() == 3) && status["players_total"] == 1
    })?;
    ensure!(round_trip(&stays, at(1), b"after")? == b"one:after");
    ensure!(upstream(&one, b"after") == port_before, "the server sees another player");
    ensure!(round_trip(&moves, at(2), b"hello")? == b"two:hello");
    ensure!(round_trip(&moves, at(4), b"hello")? == b"two:hello");
    denied.send_to(b"hello", at(1))?;
    hears_nothing(&denied)?;
    goes.send_to(b"hello", at(3))?;
    hears_nothing(&goes)
}

pub(super) fn a_game_server_that_is_not_found_keeps_no_other_waiting() -> Result<()> {
    let stage = Stage::up()?;
    let game = Quake::at(&stage.b, 27910, "one")?;
    let text = format!(
        "global allow *\nredirect * port 1 to no-such-server.invalid 27910\nredirect * port 2 to {} {}\n",
        game.at.ip(),
        game.at.port()
    );
    let _proxy = local(&stage.a, &text, &[])?;
    let at = |port| SocketAddr::new(stage.a.address(), port);
    let player = udp(&stage.b, 0)?;
    ensure!(round_trip(&player, at(2), b"hello")? == b"one:hello");
    player.send_to(b"anybody?", at(1))?;
    let seen = await_status(&stage.a, "local", "it to be dropped", |status| status["dropped"]["no server"] == 1)?;
    ensure!(seen["redirects"][0]["state"] == "waiting" && seen["redirects"][1]["state"] == "open", "{seen}");
    Ok(())
}

pub(super) fn a_stop_waits_for_players_of_a_game_where_it_is_told_to() -> Result<()> {
    let stage = Stage::up()?;
    let game = Quake::at(&stage.b, 27910, "one")?;
    let text = format!(
        "access = ['allow *']\n[options]\ndrain = '60s'\n[[redirect]]\nfrom = '1'\nto = '{}'\nprune-after = '2s'\n",
        game.at
    );
    let mut proxy = local(&stage.a, &text, &[])?;
    let at = SocketAddr::new(stage.a.address(), 1);
    let (player, late) = (udp(&stage.b, 0)?, udp(&stage.b, 0)?);
    ensure!(round_trip(&player, at, b"hello")? == b"one:hello");
    proxy.signal(Signal::TERM)?;
    await_status(&stage.a, "local", "it to be stopping", |status| status["stopping"] == true)?;
    ensure!(round_trip(&player, at, b"still here")? == b"one:still here");
    late.send_to(b"me, too", at)?;
    await_status(&stage.a, "local", "the late one to be dropped", |status| status["dropped"]["stopping"] == 1)?;
    // The last goes: so does it.
    ensure!(proxy.wait(SOON)?.code() == 0);
    let output = stage.a.run("gameproxy", &["stop"])?;
    ensure!(output.code() == 3, "{}", output.err);
    // Where it is not told to wait it does not.
    let mut proxy = local(&stage.a, &text, &[])?;
    ensure!(round_trip(&player, at, b"hello")? == b"one:hello");
    ensure!(stage.a.run("gameproxy", &["stop", "--drain", "1ms"])?.code() == 0);
    ensure!(proxy.wait(SOON)?.code() == 0);
    Ok(())
}

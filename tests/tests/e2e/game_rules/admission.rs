//! Who may play, how many, how fast; what strangers can do.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::net::Net;
use flowring_tests::spoof::Forger;

use super::stage::{
    Quake, Stage, await_status, client, dropped, hears_nothing, local, round_trip, server, status, udp, udp_echo,
};

pub(super) fn who_may_not_play_a_game_is_dropped_and_counted() -> Result<()> {
    let stage = Stage::up()?;
    let game = Quake::at(&stage.b, 27910, "one")?;
    let (me, port) = (stage.b.address(), game.at.port());
    let text = format!(
        "global deny {me} port 4000 global allow {me}/255.255.255.0 from 1024-\n\
         redirect * port 1 to {me} {port}\nredirect * port 2 to {me} {port} allow 192.0.2.1\n"
    );
    let _proxy = local(&stage.a, &text, &[])?;
    let at = |port| SocketAddr::new(stage.a.address(), port);
    let (allowed, denied) = (udp(&stage.b, 4001)?, udp(&stage.b, 4000)?);
    ensure!(round_trip(&allowed, at(1), b"hello")? == b"one:hello");
    denied.send_to(b"hello", at(1))?;
    udp(&stage.b, 1000)?.send_to(b"low", at(1))?;
    allowed.send_to(b"not for me", at(2))?;
    await_status(&stage.a, "local", "three to be dropped", |status| dropped(status, "denied") == 3)?;
    hears_nothing(&denied)?;
    let heard: Vec<Vec<u8>> = game.heard.try_iter().map(|(_, said)| said).collect();
    ensure!(heard.iter().all(|said| said == b"hello"), "{heard:?}");
    Ok(())
}

pub(super) fn players_of_a_game_are_limited_and_so_is_their_rate() -> Result<()> {
    let stage = Stage::up()?;
    let game = udp_echo(&stage.b, 27910)?;
    let text = format!(
        "access = ['allow *']\n[limits]\nplayers = 3\n[[redirect]]\nfrom = '1'\nto = '{game}'\nlimits = {{ players = 2 }}\n\
         prune-after = '1s'\n[[redirect]]\nfrom = '2'\nto = '{game}'\nlimits = {{ rate = 5 }}\n"
    );
    let _proxy = local(&stage.a, &text, &[])?;
    let at = |port| SocketAddr::new(stage.a.address(), port);
    let players: Vec<_> = (0..3).map(|_| udp(&stage.b, 0)).collect::<Result<_>>()?;
    for player in &players[..2] {
        ensure!(round_trip(player, at(1), b"in")? == b"in");
    }
    players[2].send_to(b"out", at(1))?;
    await_status(&stage.a, "local", "the third to be refused", |status| dropped(status, "too many players") >= 1)?;
    hears_nothing(&players[2])?;
    // Too fast for one player: what is over the rate is dropped, the rest is not.
    let fast = udp(&stage.b, 0)?;
    ensure!(round_trip(&fast, at(2), b"hi")? == b"hi");
    for _ in 0..50 {
        fast.send_to(b"flood", at(2))?;
    }
    await_status(&stage.a, "local", "the flood to be dropped", |status| dropped(status, "too fast") >= 40)?;
    // Who is gone makes room.
    await_status(&stage.a, "local", "the two to be gone", |status| status["redirects"][0]["players"] == 0)?;
    ensure!(round_trip(&players[2], at(1), b"in at last")? == b"in at last");
    Ok(())
}

/// The proxy has a socket for each player towards the server. Whoever finds its port is not the server.
pub(super) fn strangers_reach_no_player_of_a_game() -> Result<()> {
    let stage = Stage::up()?;
    let game = Quake::at(&stage.b, 27910, "one")?;
    let text = format!("global allow * redirect * port 1 to {} {}", game.at.ip(), game.at.port());
    let _proxy = local(&stage.a, &text, &[])?;
    let at = SocketAddr::new(stage.a.address(), 1);
    let player = udp(&stage.b, 0)?;
    ensure!(round_trip(&player, at, b"hello")? == b"one:hello");
    let (upstream, _) = game.heard.recv().context("what the server heard")?;
    let stranger = udp(&stage.b, 0)?;
    stranger.send_to(b"you are dead", upstream)?;
    // As if it were the server, from another port of its; as if it were another host.
    let forger = Forger::at(&stage.b)?;
    let (SocketAddr::V4(up), SocketAddr::V4(real)) = (upstream, game.at) else { bail!("no IPv4") };
    forger.send(SocketAddrV4::new(*real.ip(), 27911), up, b"you are dead")?;
    forger.send(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), real.port()), up, b"you are dead")?;
    hears_nothing(&player)?;
    ensure!(round_trip(&player, at, b"still here")? == b"one:still here");
    Ok(())
}

pub(super) fn made_up_players_disturb_no_game() -> Result<()> {
    const MADE_UP: u32 = 10_000;
    let net = Net::up(&["game"])?;
    let game = udp_echo(&net.b, 27910)?;
    let text = format!(
        "access = ['allow *']\n[[redirect]]\nfrom = '27910'\nto = '{game}'\nprune-after = '3s'\nlimits = {{ players = 2000 }}\n"
    );
    let _far = server(&net.b, "game", &text, &["--log", "warn"])?;
    let _near = client(&net.a, "game")?;
    await_status(&net.a, "client", "the port to be open", |status| status["ports"][0] == "0.0.0.0:27910")?;
    let at = SocketAddr::new(net.a.address(), 27910);
    let player = udp(&net.a, 0)?;
    ensure!(round_trip(&player, at, b"real")? == b"real");
    let forger = Forger::at(&net.b)?;
    let SocketAddr::V4(to) = at else { bail!("no IPv4") };
    for n in 0..MADE_UP {
        let from = SocketAddrV4::new(Ipv4Addr::from_bits(0x0a64_0000 + n), 27901);
        forger.send(from, to, b"made up")?;
        if n % 500 == 0 {
            ensure!(round_trip(&player, at, b"real")? == b"real", "after {n}");
        }
    }
    ensure!(round_trip(&player, at, b"real")? == b"real");
    let seen = status(&net.b, "server")?;
    ensure!(seen["players_total"].as_u64() <= Some(2_000), "{}", seen["players_total"]);
    // They are over as soon as a silent player is.
    await_status(&net.b, "server", "them to be gone", |status| {
        let _ = round_trip(&player, at, b"real");
        status["players_total"] == 1
    })?;
    ensure!(round_trip(&player, at, b"real")? == b"real");
    Ok(())
}

pub(super) fn game_datagrams_longer_than_an_sdu_go_in_pieces() -> Result<()> {
    let net = Net::up(&["game"])?;
    let game = udp_echo(&net.b, 27910)?;
    let _far =
        server(&net.b, "game", &format!("global allow * redirect * port 1 to {} {}", game.ip(), game.port()), &[])?;
    let _near = client(&net.a, "game")?;
    await_status(&net.a, "client", "the port to be open", |status| status["ports"][0] == "0.0.0.0:1")?;
    let at = SocketAddr::new(net.a.address(), 1);
    let player = udp(&net.a, 0)?;
    ensure!(round_trip(&player, at, &[7; 1_000])? == [7; 1_000]);
    // Quake II's longest; what a path never takes at once; UDP's longest.
    for length in [1_400, 1_472, 9_000, 65_507] {
        let words: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
        // A player each: an answer that comes after it was asked again is no other's.
        let heard = round_trip(&udp(&net.a, 0)?, at, &words)?;
        ensure!(heard == words, "{} bytes came back for {length}", heard.len());
    }
    let player = udp(&net.a, 0)?;
    ensure!(round_trip(&player, at, b"small")? == b"small");
    ensure!(round_trip(&player, at, b"")?.is_empty(), "an empty datagram is one, too");
    // In one process there is nothing that it would not fit.
    let _proxy = local(&net.b, &format!("global allow * redirect * port 2 to {} {}", game.ip(), game.port()), &[])?;
    let at = SocketAddr::new(net.b.address(), 2);
    ensure!(round_trip(&player, at, &[7; 9_000])? == [7; 9_000]);
    Ok(())
}

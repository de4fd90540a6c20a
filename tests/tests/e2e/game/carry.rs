//! What players and servers see.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::net::{Net, SOON};
use lab::{Host, Running, wait_until};
use serde_json::Value;

use crate::game_rules::stage::{await_status, status};

/// Where players send to at their host.
const PORT: u16 = 27_910;

/// The name that server sides serve.
const NAME: &str = "q2proxy";

/// A server side at b for a game server there.
pub(super) fn server(net: &Net, target: SocketAddr, more: &[&str]) -> Result<Running> {
    let redirect = format!("{}={target}", SocketAddr::new(net.a.address(), PORT));
    let words = ["server", "--name", NAME, "--redirect", &redirect];
    let running = net.b.start("gameproxy", &[&words, more].concat())?;
    net.b.await_server(running, NAME)
}

/// A client side at a, once it has its way.
pub(super) fn client(net: &Net, more: &[&str]) -> Result<Running> {
    let redirect = format!("{}=127.0.0.1:1", players(&net.a));
    let words = ["client", "--server", "flow:q2proxy", "--redirect", &redirect];
    let running = net.a.start("gameproxy", &[&words, more].concat())?;
    running.expect_log(SOON, "the way to flow:q2proxy is there")?;
    Ok(running)
}

/// Where players send to.
pub(super) fn players(host: &Host) -> SocketAddr {
    SocketAddr::new(host.address(), PORT)
}

/// How often a text is in a log.
fn count(running: &Running, text: &str) -> usize {
    running.err().lines().filter(|line| line.contains(text)).count()
}

/// A player says something until the server hears it: from whom.
fn heard(player: &UdpSocket, at: SocketAddr, server: &UdpSocket, words: &str) -> Result<SocketAddr> {
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut buffer = [0; 2048];
    for _ in 0..100 {
        player.send_to(words.as_bytes(), at)?;
        while let Ok((len, from)) = server.recv_from(&mut buffer) {
            if &buffer[..len] == words.as_bytes() {
                return Ok(from);
            }
        }
    }
    bail!("{words} was not heard")
}

/// What a player hears next, but what it has heard before.
fn answered(player: &UdpSocket, at: SocketAddr, words: &str) -> Result<()> {
    player.set_read_timeout(Some(SOON))?;
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = player.recv_from(&mut buffer).with_context(|| format!("{words} did not come"))?;
        ensure!(from == at, "from {from}, not {at}");
        if &buffer[..len] == words.as_bytes() {
            return Ok(());
        }
    }
}

pub(super) fn five_hundred_players_of_a_game_come_and_go() -> Result<()> {
    let net = Net::up(&[NAME])?;
    let target = SocketAddr::new(net.b.address(), 27_911);
    let _game = net.b.start("examples/game-load", &["serve", &target.to_string()])?;
    let far = server(&net, target, &[])?;
    let _near = client(&net, &[])?;
    let mut playing = net.a.start("examples/game-load", &["play", &players(&net.a).to_string(), "500", "3", "100"])?;
    let output = playing.wait(4 * SOON)?;
    ensure!(output.code() == 0, "{}", output.err);
    let said: Value = serde_json::from_str(output.out.trim())?;
    ensure!(said["stray"] == 0, "some came to others' players: {said}");
    let (sent, came) = (said["sent"].as_u64().context("sent")?, said["came"].as_u64().context("came")?);
    // How much a loaded machine loses is for the bench to say.
    ensure!(sent > 10_000 && came > 1_000, "{said}");
    let come = count(&far, "a player came");
    ensure!(come >= 700, "{come} players came");
    wait_until(3 * SOON, "all players to be forgotten", || count(&far, "a player went") == come)?;
    // The client side is told of each end at once.
    await_status(&net.a, "client", "it to have forgotten them, too", |status| status["ways"][0]["players"] == 0)?;
    ensure!(status(&net.b, "server")?["players_total"] == 0);
    Ok(())
}

pub(super) fn a_game_goes_on_when_its_server_side_is_started_again() -> Result<()> {
    let net = Net::up(&[NAME])?;
    let game = net.b.socket(27_911)?;
    let mut far = server(&net, game.local_addr()?, &[])?;
    let near = client(&net, &[])?;
    let (player, at) = (net.a.socket(0)?, players(&net.a));
    let first = heard(&player, at, &game, "I join")?;
    game.send_to(b"welcome", first)?;
    answered(&player, at, "welcome")?;
    far.kill()?;
    near.expect_log(SOON, "the way to flow:q2proxy is lost")?;
    let far = server(&net, game.local_addr()?, &[])?;
    let again = heard(&player, at, &game, "I play on")?;
    ensure!(again == first, "the server sees another player: {again}, not {first}");
    game.send_to(b"as before", again)?;
    answered(&player, at, "as before")?;
    far.expect_log(SOON, "a player came")?;
    ensure!(count(&far, "a player came") == 1, "{}", far.err());
    Ok(())
}

pub(super) fn a_game_goes_on_when_its_flow_is_lost() -> Result<()> {
    let net = Net::up(&[NAME])?;
    let game = net.b.socket(27_911)?;
    let _far = server(&net, game.local_addr()?, &[])?;
    let near = client(&net, &[])?;
    let (player, at) = (net.a.socket(0)?, players(&net.a));
    let first = heard(&player, at, &game, "I join")?;
    let flows = net.a.list("flow list")?;
    let flow = flows.first().and_then(|flow| flow["id"].as_u64()).context("a flow")?;
    net.a.irm(&["flow", "dealloc", &flow.to_string()])?;
    near.expect_log(SOON, "the way to flow:q2proxy is lost")?;
    ensure!(heard(&player, at, &game, "I play on")? == first, "the server sees another player");
    game.send_to(b"as before", first)?;
    answered(&player, at, "as before")
}

pub(super) fn a_game_server_that_never_stops_keeps_no_dead_player() -> Result<()> {
    let net = Net::up(&[NAME])?;
    let game = net.b.socket(27_911)?;
    let far = server(&net, game.local_addr()?, &[])?;
    let _near = client(&net, &[])?;
    let player = net.a.socket(0)?;
    let from = heard(&player, players(&net.a), &game, "I join")?;
    drop(player);
    game.connect(from)?;
    // The port it sends to is closed in the end: its host says so.
    wait_until(3 * SOON, "the route to be closed", || {
        std::thread::park_timeout(Duration::from_millis(5));
        game.send(b"more and more").is_err()
    })?;
    let line = far.expect_log(SOON, "a player went")?;
    ensure!(line.contains("the player was silent"), "{line}");
    Ok(())
}

pub(super) fn game_datagrams_go_through_a_byte_stream() -> Result<()> {
    let net = Net::up(&[NAME])?;
    let game = net.b.socket(27_911)?;
    let _far = server(&net, game.local_addr()?, &["--carrier", "stream"])?;
    let _near = client(&net, &["--carrier", "stream"])?;
    let (one, two, at) = (net.a.socket(0)?, net.a.socket(0)?, players(&net.a));
    let first = heard(&one, at, &game, "one")?;
    let second = heard(&two, at, &game, "two")?;
    game.send_to(b"for two", second)?;
    game.send_to(b"for one", first)?;
    answered(&one, at, "for one")?;
    answered(&two, at, "for two")?;
    // Who speaks something else is told so.
    let wrong = net.a.start("gameproxy", &["client", "--server", "flow:q2proxy"])?;
    wrong.expect_log(SOON, "a gameproxy with --carrier stream serves this name")?;
    Ok(())
}

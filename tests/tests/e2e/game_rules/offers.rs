//! What client sides learn of a server side's rules.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::{Net, SOON, timed};
use lab::Link;

use super::stage::{await_status, client, hears_nothing, round_trip, rules, server, udp, udp_echo};

fn ports(status: &serde_json::Value) -> Vec<&str> {
    status["ports"].as_array().into_iter().flatten().filter_map(|port| port.as_str()).collect()
}

pub(super) fn game_clients_learn_their_ports() -> Result<()> {
    let net = Net::up(&["game"])?;
    let game = udp_echo(&net.b, 27910)?;
    let (a, to) = (net.a.address(), format!("{} {}", game.ip(), game.port()));
    // For it by its address; by `on`; for others; for whoever it is.
    let text = format!(
        "global deny {a} port 4000 global allow *\nredirect {a} port 1 to {to}\non {a} redirect {a} port 2 to {to}\n\
         redirect 192.0.2.1 port 3 to {to}\non 192.0.2.1 redirect {a} port 4 to {to}\nredirect * port 5 to {to}\n\
         on {a} redirect 192.0.2.1 port 6 to {to}\n"
    );
    let _far = server(&net.b, "game", &text, &[])?;
    let near = client(&net.a, "game")?;
    let want = ["0.0.0.0:5".to_owned(), "0.0.0.0:6".to_owned(), format!("{a}:1"), format!("{a}:2")];
    await_status(&net.a, "client", "its ports to be open", |status| {
        let mut open = ports(status);
        open.sort_unstable();
        open == want
    })?;
    near.expect_log(SOON, "which ports are this machine's")?;
    let player = udp(&net.a, 0)?;
    for port in [1, 2, 5, 6] {
        ensure!(round_trip(&player, SocketAddr::new(a, port), b"hello")? == b"hello", "port {port}");
    }
    // Who may not play does not get as far as the flow.
    let denied = udp(&net.a, 4000)?;
    denied.send_to(b"hello", SocketAddr::new(a, 1))?;
    await_status(&net.a, "client", "it to be dropped", |status| status["dropped"]["denied"] == 1)?;
    hears_nothing(&denied)?;
    let seen = await_status(&net.b, "server", "the way to be measured", |status| {
        status["ways"][0]["round_trip_us"].as_u64() > Some(0)
    })?;
    ensure!(seen["players_total"] == 4 && seen["ways"][0]["players"] == 4, "{seen}");
    let through = &seen["players"][0]["through"];
    ensure!(through.as_str().is_some_and(|through| through.starts_with(&a.to_string())), "{seen}");
    // A probe says how far both are.
    let output = net.a.run("gameproxy", &["ping", &format!("{a}:1"), "-c", "2", "-i", "10ms"])?;
    ensure!(output.code() == 0 && output.out.contains("from there to the server side"), "{}{}", output.out, output.err);
    Ok(())
}

pub(super) fn game_clients_learn_of_changes() -> Result<()> {
    let net = Net::up(&["game"])?;
    let game = udp_echo(&net.b, 27910)?;
    let (a, to) = (net.a.address(), format!("{} {}", game.ip(), game.port()));
    let mut far = server(&net.b, "game", &format!("global allow * redirect * port 1 to {to}"), &[])?;
    let _near = client(&net.a, "game")?;
    await_status(&net.a, "client", "the first port", |status| ports(status) == ["0.0.0.0:1"])?;
    let player = udp(&net.a, 0)?;
    ensure!(round_trip(&player, SocketAddr::new(a, 1), b"hello")? == b"hello");
    // Many more, which are told in many parts; the first stays as it is.
    let many: String = (1..=500).map(|port| format!("redirect * port {port} to {to}\n")).collect();
    rules(&net.b, &format!("global allow *\n{many}"))?;
    ensure!(net.b.run("gameproxy", &["reload"])?.code() == 0);
    await_status(&net.a, "client", "all ports", |status| ports(status).len() == 500)?;
    ensure!(round_trip(&player, SocketAddr::new(a, 500), b"hello")? == b"hello");
    // Nobody may play any more: players go at once, and the client side knows.
    rules(&net.b, &format!("global deny {a}\nglobal allow *\nredirect * port 2 to {to}\n"))?;
    ensure!(net.b.run("gameproxy", &["reload", "server"])?.code() == 0);
    await_status(&net.b, "server", "nobody to be there", |status| status["players_total"] == 0)?;
    await_status(&net.a, "client", "one port", |status| ports(status) == ["0.0.0.0:2"])?;
    player.send_to(b"hello", SocketAddr::new(a, 2))?;
    await_status(&net.a, "client", "it to be dropped at once", |status| status["dropped"]["denied"] == 1)?;
    // The server side is started again with other rules: the client side asks anew.
    far.kill()?;
    let _far = server(&net.b, "game", &format!("global allow * redirect * port 3 to {to}"), &[])?;
    await_status(&net.a, "client", "the new port", |status| ports(status) == ["0.0.0.0:3"])?;
    ensure!(round_trip(&player, SocketAddr::new(a, 3), b"hello")? == b"hello");
    Ok(())
}

pub(super) fn several_client_sides_play_at_one_game() -> Result<()> {
    let net = Net::up(&["game"])?;
    let game = udp_echo(&net.b, 27910)?;
    let to = format!("{} {}", game.ip(), game.port());
    let text = format!(
        "global allow *\nredirect {} port 1 to {to}\nredirect {} port 2 to {to}\n",
        net.a.address(),
        net.b.address()
    );
    let _far = server(&net.b, "game", &text, &[])?;
    let (_one, _two) = (client(&net.a, "game")?, client(&net.b, "game")?);
    for (host, port) in [(&net.a, 1), (&net.b, 2)] {
        let at = SocketAddr::new(host.address(), port);
        await_status(host, "client", "its own port alone", |status| ports(status) == [at.to_string()])?;
        let player = udp(host, 27901)?;
        ensure!(round_trip(&player, at, b"hello")? == b"hello");
    }
    let seen = await_status(&net.b, "server", "both", |status| status["players_total"] == 2)?;
    ensure!(seen["ways"].as_array().is_some_and(|ways| ways.len() == 2), "{seen}");
    Ok(())
}

pub(super) fn a_game_server_side_is_started_when_a_client_asks() -> Result<()> {
    let net = Net::up(&["asleep"])?;
    let game = udp_echo(&net.b, 27910)?;
    let path = rules(&net.b, &format!("global allow * redirect * port 1 to {} {}", game.ip(), game.port()))?;
    let gameproxy = lab::binaries::folder().context("prepared")?.join("gameproxy");
    let (gameproxy, path) = (gameproxy.to_str().context("a path of text")?, path.to_str().context("a path of text")?);
    let words = ["server", "--name", "asleep", "--config", path];
    net.b.irm(&[&["bind", "program", gameproxy, "--name", "asleep", "--auto", "--"][..], &words].concat())?;
    net.b.irm(&["name", "register", "asleep", "--layer", "net"])?;
    let _near = client(&net.a, "asleep")?;
    await_status(&net.a, "client", "the port to be open", |status| ports(status) == ["0.0.0.0:1"])?;
    let player = udp(&net.a, 0)?;
    ensure!(round_trip(&player, SocketAddr::new(net.a.address(), 1), b"hello")? == b"hello");
    ensure!(net.b.run("gameproxy", &["stop", "server"])?.code() == 0);
    Ok(())
}

/// Who plays on the server's own host waits for as long as who is 60 ms away.
pub(super) fn players_of_a_fair_game_have_the_same_round_trip() -> Result<()> {
    let net = Net::up(&["game"])?;
    let game = udp_echo(&net.b, 27910)?;
    let text = format!("access = ['allow *']\n[[redirect]]\nfrom = '27900'\nto = '{game}'\nfair-ping = '200ms'\n");
    net.a.link().set(Link { delay: Duration::from_millis(30), ..Link::default() })?;
    let _far = server(&net.b, "game", &text, &[])?;
    let (_one, _two) = (client(&net.a, "game")?, client(&net.b, "game")?);
    let mut medians = Vec::new();
    let players = [(&net.a, udp(&net.a, 0)?), (&net.b, udp(&net.b, 0)?)];
    for (host, _) in &players {
        await_status(host, "client", "its port", |status| ports(status) == ["0.0.0.0:27900"])?;
    }
    await_status(&net.b, "server", "both ways to be measured", |status| {
        for (host, player) in &players {
            let _ = round_trip(player, SocketAddr::new(host.address(), 27900), b"hello");
        }
        status["ways"].as_array().is_some_and(|ways| ways.iter().all(|way| !way["round_trip_us"].is_null()))
            && status["players_total"] == 2
    })?;
    // The next pings tell who is nearer to wait.
    let near = SocketAddr::new(net.b.address(), 27900);
    lab::wait_until(SOON, "the nearer to be delayed", || {
        let (there, took) = timed(|| {
            let _ = round_trip(&players[0].1, SocketAddr::new(net.a.address(), 27900), b"far");
            round_trip(&players[1].1, near, b"near").is_ok()
        });
        there && took.as_millis() > 110
    })?;
    for (host, player) in &players {
        let mut took = Vec::new();
        for _ in 0..9 {
            let (answer, time) = timed(|| round_trip(player, SocketAddr::new(host.address(), 27900), b"ping"));
            answer?;
            took.push(time);
        }
        took.sort_unstable();
        medians.push(*took.get(4).context("a median")?);
    }
    let apart = medians[0].abs_diff(medians[1]);
    ensure!(apart.as_millis() <= 15, "{medians:?}");
    Ok(())
}

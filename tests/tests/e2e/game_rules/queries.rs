//! Quake II's queries, tokens, probes; what is said of configurations.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use flowring_tests::net::SOON;
use lab::wait_until;

use super::stage::{CONNECTIONLESS, Quake, Stage, await_status, hears_nothing, local, round_trip, rules, udp};

pub(super) fn quake_queries_say_which_game_servers_live() -> Result<()> {
    let stage = Stage::up()?;
    let (one, two) = (Quake::at(&stage.b, 27910, "one")?, Quake::at(&stage.b, 27911, "two")?);
    let text = format!(
        "access = ['allow *']\n[[redirect]]\nname = 'q2'\nfrom = '27910'\nto = ['{}', '{}']\nbalance = 'least-players'\n\
         health = {{ query = 'quake2', every = '200ms', fails = 2 }}\nprune-after = '2s'\n",
        one.at, two.at
    );
    let proxy = local(&stage.a, &text, &[])?;
    let at = SocketAddr::new(stage.a.address(), 27910);
    let server = |status: &serde_json::Value, place: usize| status["redirects"][0]["servers"][place].clone();
    await_status(&stage.a, "local", "both servers to have been asked", |status| {
        (0..2).all(|place| {
            server(status, place)["up"] == true && server(status, place)["round_trip_us"].as_u64() > Some(0)
        })
    })?;
    let first = udp(&stage.b, 0)?;
    let said = round_trip(&first, at, &[CONNECTIONLESS, b"status\n"].concat())?;
    ensure!(said == [CONNECTIONLESS, b"print\n\\hostname\\one\n"].concat(), "{:?}", String::from_utf8_lossy(&said));
    let said = round_trip(&first, at, &[CONNECTIONLESS, b"info 34\n"].concat())?;
    ensure!(said == [CONNECTIONLESS, b"info\none q2dm1 0/8\n"].concat(), "{:?}", String::from_utf8_lossy(&said));
    ensure!(round_trip(&udp(&stage.b, 0)?, at, b"move")? == b"two:move", "the one with fewer players");
    // The first ends: it is noticed, and who comes plays elsewhere.
    let stopper = udp(&stage.b, 0)?;
    stopper.send_to(b"quit", one.at)?;
    one.quit()?;
    proxy.expect_log(SOON, "does not answer")?;
    for _ in 0..3 {
        ensure!(round_trip(&udp(&stage.b, 0)?, at, b"move")? == b"two:move");
    }
    let status = await_status(&stage.a, "local", "it to be shown", |status| server(status, 0)["up"] == false)?;
    ensure!(server(&status, 1)["players"] == 4, "{status}");
    // It is back.
    let _one = Quake::at(&stage.b, 27910, "one")?;
    proxy.expect_log(SOON, "a server answers again")?;
    wait_until(SOON, "players to come to it", || {
        udp(&stage.b, 0).and_then(|player| round_trip(&player, at, b"move")).is_ok_and(|said| said == b"one:move")
    })
}

pub(super) fn a_token_picks_the_game_server_and_does_not_reach_it() -> Result<()> {
    let stage = Stage::up()?;
    let (one, two) = (Quake::at(&stage.b, 27910, "one")?, Quake::at(&stage.b, 27911, "two")?);
    let text = format!(
        "access = ['allow *']\n[[redirect]]\nfrom = '27910'\ntoken = 'front 4'\nto = [{{ address = '{}', tokens = ['aaaa', \
         '0x00010203'] }}, {{ address = '{}', tokens = ['bbbb'] }}]\n",
        one.at, two.at
    );
    let _proxy = local(&stage.a, &text, &[])?;
    let at = SocketAddr::new(stage.a.address(), 27910);
    for (said, want) in
        [(&b"aaaamove"[..], &b"one:move"[..]), (b"\0\x01\x02\x03hi", b"one:hi"), (b"bbbbmove", b"two:move")]
    {
        ensure!(round_trip(&udp(&stage.b, 0)?, at, said)? == want);
    }
    let stranger = udp(&stage.b, 0)?;
    stranger.send_to(b"ccccmove", at)?;
    stranger.send_to(b"aaa", at)?;
    await_status(&stage.a, "local", "them to be dropped", |status| status["dropped"]["no token"] == 2)?;
    hears_nothing(&stranger)
}

pub(super) fn a_probe_says_how_far_away_the_game_proxy_is() -> Result<()> {
    let stage = Stage::up()?;
    let game = Quake::at(&stage.b, 27910, "one")?;
    let text =
        format!("global allow {} redirect * port 27910 to {} {}", stage.b.address(), game.at.ip(), game.at.port());
    let _proxy = local(&stage.a, &text, &[])?;
    let at = SocketAddr::new(stage.a.address(), 27910).to_string();
    let output = stage.b.run("gameproxy", &["ping", &at, "-c", "3", "-i", "500ms"])?;
    ensure!(output.code() == 0 && output.out.contains("3 of 3 answered"), "{}{}", output.out, output.err);
    // It is no player, and no game server hears of it; who may not play is not answered.
    ensure!(game.heard.try_recv().is_err(), "the server heard of it");
    let output = stage.a.run("gameproxy", &["ping", &at, "-c", "1", "-i", "10ms"])?;
    ensure!(
        output.code() == 1 && output.err.contains("does its access list let you in?"),
        "{}{}",
        output.out,
        output.err
    );
    await_status(&stage.a, "local", "nobody to be there", |status| status["players_total"] == 0).map(drop)
}

pub(super) fn a_wrong_game_configuration_is_told_with_its_place() -> Result<()> {
    let stage = Stage::up()?;
    let rows = [
        ("global allow *\nredirect 10.0.0.1 prot 5 to b 6", ":2:19: 'prot' stands where 'port' behind the address"),
        ("global allow 10.0.0.256", ":1:14: '10.0.0.256' stands where an address or a host name is expected"),
        ("global allow *", ":1:1: there is no redirect"),
        ("[[redirect]]\nfrom = '5'\nto = 'a:1'\nqueue = 0\n", ":4:9: queue is a number of datagrams from 1 to 4096"),
    ];
    for (text, want) in rows {
        let path = rules(&stage.a, text)?;
        let path = path.to_str().unwrap_or_default();
        for args in [&["check", path][..], &["local", "--config", path], &["server", "--name", "x", "--config", path]] {
            let output = stage.a.run("gameproxy", args)?;
            ensure!(output.code() == 1 && output.err.contains(&format!("{path}{want}")), "{args:?}: {}", output.err);
        }
    }
    let output = stage.a.run("gameproxy", &["local", "--config", "/nowhere"])?;
    ensure!(output.code() == 1 && output.err.contains("/nowhere cannot be read"), "{}", output.err);
    // A port that is taken.
    let taken = stage.a.socket(27910)?;
    let path = rules(&stage.a, "global allow * redirect * port 27910 to 10.0.0.1 27910")?;
    let output = stage.a.run("gameproxy", &["local", "--config", path.to_str().unwrap_or_default()])?;
    ensure!(output.code() == 1 && output.err.contains("27910 cannot be opened"), "{}", output.err);
    drop(taken);
    let output = stage.a.run("gameproxy", &["status"])?;
    ensure!(output.code() == 3 && output.err.contains("no gameproxy runs on"), "{}", output.err);
    Ok(())
}

pub(super) fn what_matches_a_player_of_a_game_is_explained() -> Result<()> {
    let stage = Stage::up()?;
    let text = "global deny 192.168.1.66 # a cheat\nglobal allow 192.168.1.0/255.255.255.0 from 1024 -\n\
                on 10.0.0.2 redirect 10.0.0.1 port 27910 to localhost 27910\nredirect 10.0.0.1 port 27910 to 10.0.0.9 27911 delay 30ms+20ms\n";
    let path = rules(&stage.a, text)?;
    let path = path.to_str().unwrap_or_default();
    let check = |more: &[&str]| -> Result<String> {
        let output = stage.a.run("gameproxy", &[&["check", path], more].concat())?;
        ensure!(output.code() == 0, "{}", output.err);
        Ok(output.out)
    };
    let plain = check(&[])?;
    ensure!(plain.contains("global deny 192.168.1.66\n") && plain.contains("# localhost is "), "{plain}");
    let said = check(&["--client", "192.168.1.66:5000"])?;
    ensure!(said.trim_end() == "192.168.1.66:5000 is not let in: entry 1, global deny 192.168.1.66", "{said}");
    let said = check(&["--client", "192.168.1.7:5000", "--to", "10.0.0.1:27910", "--machine", "10.0.0.1"])?;
    let want = "192.168.1.7:5000 is let in: entry 2, global allow 192.168.1.0/255.255.255.0 from 1024 -\n\
                a datagram to 10.0.0.1:27910:\n  1. 10.0.0.2 10.0.0.1:27910: no, it is for the machine 10.0.0.2\n  \
                2. 10.0.0.1:27910: goes to 10.0.0.9:27911, delayed by 30ms there and 20ms back";
    ensure!(said.trim_end() == want, "{said}");
    let said = check(&["--client", "192.168.1.7:5000", "--to", "10.0.0.1:27910", "--machine", "10.0.0.2"])?;
    ensure!(said.contains("1. 10.0.0.2 10.0.0.1:27910: goes to localhost:27910 ("), "{said}");
    Ok(())
}

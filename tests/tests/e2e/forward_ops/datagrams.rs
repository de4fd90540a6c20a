//! Rules for UDP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::{Net, SOON};
use lab::{Host, wait_until};

use super::stage::{Stage, portfwd, round_trip, rule, udp, udp_echo};

/// What both ways have to do with any client.
fn speak(clients: &Host, at: SocketAddr) -> Result<()> {
    let (one, two) = (udp(clients, 0)?, udp(clients, 0)?);
    for (socket, words) in [(&one, &b"first"[..]), (&two, b"second"), (&one, b""), (&one, &[7; 1100])] {
        let heard = round_trip(socket, at, words)?;
        ensure!(heard == words, "{} bytes came back for {}", heard.len(), words.len());
    }
    Ok(())
}

pub(super) fn datagrams_are_forwarded_from_socket_to_socket() -> Result<()> {
    let stage = Stage::up()?;
    let server = udp_echo(&stage.b, 5353)?;
    let dead = SocketAddr::new(stage.b.address(), 9);
    let text = format!(
        "[[rule]]\nname = 'dns'\nlisten = 'udp:53'\ntarget = 'udp:{server}'\nidle-timeout = '300ms'\n\
         [[rule]]\nname = 'dead'\nlisten = 'udp:54'\ntarget = 'udp:{dead}'\n\
         [[rule]]\nname = 'both'\nlisten = 'udp:55'\ntargets = ['udp:{dead}', 'udp:{server}']\nhealth = {{ fails = 1, retry = '1h' }}\n\
         [[rule]]\nname = 'one'\nlisten = 'udp:56'\ntarget = 'udp:{server}'\nmax-connections = 1\n\
         [[rule]]\nname = 'deny'\nlisten = 'udp:57'\ntarget = 'udp:{server}'\ndeny = ['0.0.0.0/0']\n"
    );
    let running = portfwd(&stage.a, &text, &[])?;
    let at = |port| SocketAddr::new(stage.a.address(), port);
    speak(&stage.b, at(53))?;
    // Longer than a packet of the link: cut by the network, put together again.
    let big = vec![9; 9000];
    ensure!(round_trip(&udp(&stage.b, 0)?, at(53), &big)? == big);
    // Who is silent is forgotten, each with a line in the log; and may come again.
    wait_until(SOON, "sessions to be over", || rule(&stage.a, "dns").is_ok_and(|rule| rule["open"] == 0))?;
    ensure!(rule(&stage.a, "dns")?["ended"]["clean"] == 3, "{}", rule(&stage.a, "dns")?);
    speak(&stage.b, at(53))?;
    // The target's host says that nobody is there: told, and counted.
    let client = udp(&stage.b, 0)?;
    wait_until(SOON, "the refusal to be told", || {
        client.send_to(b"anybody?", at(54)).is_ok()
            && rule(&stage.a, "dead").is_ok_and(|rule| rule["targets"][0]["failed"] != 0)
    })?;
    running.expect_log(SOON, "nobody listens there (ICMP)")?;
    // And the next datagram goes to who is there.
    ensure!(round_trip(&udp(&stage.b, 0)?, at(55), b"somebody")? == b"somebody");
    let (first, second) = (udp(&stage.b, 0)?, udp(&stage.b, 0)?);
    ensure!(round_trip(&first, at(56), b"mine")? == b"mine");
    second.send_to(b"no room", at(56))?;
    second.send_to(b"not for me", at(57))?;
    wait_until(SOON, "both to be counted", || {
        rule(&stage.a, "one").is_ok_and(|rule| rule["dropped"]["too many clients"] == 1)
            && rule(&stage.a, "deny").is_ok_and(|rule| rule["refused"]["not permitted"] == 1)
    })?;
    ensure!(round_trip(&first, at(56), b"still mine")? == b"still mine");
    Ok(())
}

pub(super) fn datagrams_are_forwarded_over_a_flow() -> Result<()> {
    let net = Net::up(&["dns"])?;
    let server = udp_echo(&net.b, 5353)?;
    let dead = SocketAddr::new(net.b.address(), 9);
    let at = SocketAddr::new(net.a.address(), 53);
    for serving in [&net.b, &net.a] {
        let near = portfwd(&net.a, "udp:53 -> flow:dns\n", &[])?;
        // Nobody serves the name yet: dropped, told, and asked for again.
        let client = udp(&net.a, 0)?;
        client.send_to(b"too early", at)?;
        near.expect_log(SOON, "datagrams are dropped")?;
        let far = serving.start("portfwd", &["flow:dns", &format!("udp:{server}")])?;
        let far = serving.await_server(far, "dns")?;
        speak(&net.a, at)?;
        let status = rule(&net.a, "udp:53")?;
        ensure!(status["open"].as_u64() >= Some(2) && status["bytes_out"].as_u64() > Some(1000), "{status}");
        // The far side knows the clients by their own addresses.
        drop(near);
        far.expect_log(SOON, &format!("client={}:", net.a.address()))?;
        drop(far);
    }
    let near = portfwd(&net.a, "udp:53 -> flow:dns\n", &[])?;
    let far = net.b.start("portfwd", &["flow:dns", &format!("udp:{dead}")])?;
    let _far = net.b.await_server(far, "dns")?;
    let client = udp(&net.a, 0)?;
    wait_until(SOON, "the far refusal to be told", || {
        client.send_to(b"anybody?", at).is_ok() && near.err().contains("far side: the target refused")
    })
}

/// 1,000 clients that speak by turns, 400 bytes back for 100: nothing is lost where the sockets have room.
pub(super) fn a_thousand_players_lose_nothing() -> Result<()> {
    const PLAYERS: usize = 1000;
    const ROUNDS: u8 = 10;
    /// Datagrams under way at a time.
    const BURST: usize = 50;
    let stage = Stage::up()?;
    let game = stage.b.socket(27910)?;
    game.set_read_timeout(None)?;
    let server = game.local_addr()?;
    std::thread::Builder::new().name("game".into()).spawn(move || {
        let mut heard = [0; 2000];
        while let Ok((len, from)) = game.recv_from(&mut heard) {
            let state: Vec<u8> = heard[..len].iter().cycle().take(4 * len).copied().collect();
            let _ = game.send_to(&state, from);
        }
    })?;
    let _running = portfwd(&stage.a, &format!("udp:27910 -> udp:{server}\n"), &["--log", "warn"])?;
    let at = SocketAddr::new(stage.a.address(), 27910);
    let players: Vec<_> = (0..PLAYERS).map(|_| udp(&stage.b, 0)).collect::<Result<_>>()?;
    for player in &players {
        player.connect(at)?;
        player.set_read_timeout(Some(Duration::from_secs(20)))?;
    }
    for round in 0..ROUNDS {
        for group in players.chunks(BURST) {
            for player in group {
                player.send(&[round; 100])?;
            }
            for player in group {
                let mut state = [0; 2000];
                let len = player.recv(&mut state).with_context(|| format!("a datagram of round {round} was lost"))?;
                ensure!(state[..len] == [round; 400], "{len} bytes of another round");
            }
        }
    }
    let game = rule(&stage.a, "udp:27910")?;
    ensure!(game["open"] == PLAYERS && game["dropped"].as_object().is_some_and(serde_json::Map::is_empty), "{game}");
    ensure!(game["bytes_in"] == PLAYERS * usize::from(ROUNDS) * 100 && game["accepted"] == PLAYERS, "{game}");
    Ok(())
}

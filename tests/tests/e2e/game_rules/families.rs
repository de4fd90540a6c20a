//! Players and servers of both families of addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::{Net, SOON};
use lab::{Host, wait_until};

use super::stage::{await_status, client, local, metrics, round_trip, server, udp, udp_echo, udp_echo_of};

/// What a host has: its address of each family.
fn both(host: &Host) -> Result<(IpAddr, IpAddr)> {
    Ok((host.address(), host.address6().context("no IPv6 address")?))
}

/// Game servers of both families at a host.
fn servers(host: &Host) -> Result<(SocketAddr, SocketAddr)> {
    let (_, v6) = both(host)?;
    Ok((udp_echo(host, 27_910)?, udp_echo_of(host.socket_at(v6, 27_910)?)?))
}

/// Every family of players to every family of servers, each by a port of its own.
fn rules(at: (IpAddr, IpAddr), servers: (SocketAddr, SocketAddr)) -> String {
    let (v4, v6) = at;
    let (old, new) = servers;
    format!(
        "global deny {v6} port 4000 global allow {v6}/128 global allow {v4} global deny *\n\
         redirect {v4} port 1 to {} {port}\nredirect {v4} port 2 to {} {port}\n\
         redirect {v6} port 3 to {} {port}\nredirect {v6} port 4 to {} {port}\nredirect :: port 5 to {} {port}\n",
        old.ip(),
        new.ip(),
        old.ip(),
        new.ip(),
        new.ip(),
        port = old.port(),
    )
}

/// Each player hears its echo, from where it sent to.
fn play(host: &Host) -> Result<()> {
    let (v4, v6) = both(host)?;
    for (ip, ports) in [(v4, [1, 2, 5]), (v6, [3, 4, 5])] {
        let player = host.socket_at(ip, 0)?;
        for port in ports {
            let to = SocketAddr::new(ip, port);
            let words = format!("from {ip} to {to}");
            ensure!(round_trip(&player, to, words.as_bytes())? == words.as_bytes(), "{words}");
        }
    }
    Ok(())
}

pub(super) fn players_of_both_families_reach_servers_of_both() -> Result<()> {
    let net = Net::up6(&["game"])?;
    let text = rules(both(&net.a)?, servers(&net.b)?);
    let far = server(&net.b, "game", &text, &["--metrics", "127.0.0.1:9106"])?;
    let near = client(&net.a, "game")?;
    await_status(&net.a, "client", "its ports to be open", |status| {
        status["ports"].as_array().map(Vec::len) == Some(5)
    })?;
    play(&net.a)?;
    // Who is denied is denied by its address of this family, too.
    let (_, v6) = both(&net.a)?;
    let denied = net.a.socket_at(v6, 4000)?;
    denied.send_to(b"hello", SocketAddr::new(v6, 3))?;
    await_status(&net.a, "client", "it to be dropped", |status| status["dropped"]["denied"] == 1)?;
    let status = await_status(&net.b, "server", "six players", |status| status["players_total"] == 6)?;
    let page = metrics(&net.b, "127.0.0.1:9106".parse()?)?;
    let count = |name: &str| status[name].as_u64().unwrap_or(u64::MAX);
    for line in [
        "gameproxy_players 6".to_owned(),
        "gameproxy_players_came_total 6".to_owned(),
        "gameproxy_ways 1".to_owned(),
        format!("gameproxy_datagrams_total{{direction=\"up\"}} {}", count("datagrams_up")),
        format!("gameproxy_bytes_total{{direction=\"down\"}} {}", count("bytes_down")),
    ] {
        ensure!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
    }
    far.expect_log(SOON, "a player came")?;
    drop(near);
    Ok(())
}

pub(super) fn players_of_both_families_are_proxied_in_one_process() -> Result<()> {
    let net = Net::bare()?;
    let text = rules(both(&net.a)?, servers(&net.b)?);
    let at = "127.0.0.1:9107".parse()?;
    let _proxy = local(&net.a, &text, &["--metrics", "127.0.0.1:9107"])?;
    play(&net.a)?;
    let stranger = udp(&net.b, 0)?;
    stranger.send_to(b"hello", SocketAddr::new(net.a.address(), 1))?;
    await_status(&net.a, "local", "a stranger to be dropped", |status| status["dropped"]["denied"] == 1)?;
    let page = metrics(&net.a, at)?;
    for line in ["gameproxy_players 6", "gameproxy_dropped_datagrams_total{reason=\"denied\"} 1"] {
        ensure!(page.lines().any(|said| said == line), "{line} is not in\n{page}");
    }
    Ok(())
}

/// An address of one link only, with that link: as any host with IPv6 has on each.
fn link_local(host: &Host) -> Result<SocketAddrV6> {
    let mut found = None;
    wait_until(SOON, "an address of one link", || {
        let all = host.run("cat", &["/proc/net/if_inet6"]).map(|output| output.out).unwrap_or_default();
        // Address, link, length, scope (20: of one link), flags (40: not yet known to be nobody else's), name.
        let words = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut good = words.filter(|words| matches!(words[..], [_, _, _, "20", flags, _] if flags != "40"));
        found = good.find_map(|words| {
            let ip = u128::from_str_radix(words[0], 16).ok()?;
            Some(SocketAddrV6::new(ip.into(), 0, 0, u32::from_str_radix(words[1], 16).ok()?))
        });
        found.is_some()
    })?;
    found.context("no address of one link")
}

pub(super) fn a_player_at_an_address_of_one_link_is_answered_through_a_flow() -> Result<()> {
    let net = Net::up6(&["game"])?;
    let target = udp_echo(&net.b, 27_910)?;
    let text = format!("global allow * redirect :: port 5 to {} {}", target.ip(), target.port());
    let _far = server(&net.b, "game", &text, &[])?;
    let _near = client(&net.a, "game")?;
    await_status(&net.a, "client", "its port to be open", |status| {
        status["ports"].as_array().map(Vec::len) == Some(1)
    })?;
    let mut at = link_local(&net.a)?;
    at.set_port(5);
    let player = net.a.socket_at(Ipv6Addr::UNSPECIFIED.into(), 0)?;
    ensure!(round_trip(&player, at.into(), b"over one link")? == b"over one link");
    Ok(())
}

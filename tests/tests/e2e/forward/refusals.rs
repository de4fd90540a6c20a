//! Connections that no target takes: the client is reset, and the log says why.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::{Net, SOON};
use lab::{Host, Running, wait_until};

use super::road::{self, PORT, Road, SERVER, Way, accept, connect, listener, serve, stage};
use super::stories::named;

/// What a client reads that says nothing.
fn end(mut stream: TcpStream) -> String {
    match stream.read(&mut [0; 10]) {
        Ok(0) => "an end".to_owned(),
        Ok(len) => format!("{len} bytes"),
        Err(error) => named(&error),
    }
}

/// What a client sees that connects and says nothing. The reset may be there before connect looks whether it has worked.
fn seen(at: &Host, to: SocketAddr) -> Result<String> {
    Ok(match at.inside(move || TcpStream::connect_timeout(&to, SOON))? {
        Ok(stream) => {
            stream.set_read_timeout(Some(SOON))?;
            end(stream)
        }
        Err(error) => named(&error),
    })
}

/// A client is reset, and portfwd says `why`.
fn is_reset(at: &Host, to: SocketAddr, by: &Running, why: &str) -> Result<()> {
    let end = seen(at, to)?;
    ensure!(end == "a reset", "{why}: the client saw {end}");
    by.expect_log(SOON, why).map(drop)
}

fn near(net: &Net) -> SocketAddr {
    SocketAddr::new(net.a.address(), PORT)
}

pub(super) fn a_dead_target_is_a_reset() -> Result<()> {
    let net = stage()?;
    let road = Road::build(&net, Way::Direct)?;
    let running = road.near.as_ref().context("a forwarder")?;
    is_reset(&net.a, near(&net), running, "end=\"refused\"")?;
    // Where it is dead over a flow, the far side's word is the near side's.
    drop(road);
    for way in [Way::Local, Way::Hosts] {
        let road = Road::build(&net, way)?;
        let (near_side, far_side) = (road.near.as_ref().context("near")?, road.far.as_ref().context("far")?);
        is_reset(&net.a, near(&net), near_side, "end=\"refused\"")?;
        near_side.expect_log(SOON, "far side: refused")?;
        far_side.expect_log(SOON, "end=\"refused\"")?;
    }
    Ok(())
}

/// `accept = "after-target"`: clients of a dead target see what they would see without a forwarder.
pub(super) fn a_dead_target_is_no_listener_where_the_rule_says_so() -> Result<()> {
    let net = stage()?;
    let (to, target) = (near(&net), SocketAddr::new(net.b.address(), SERVER));
    let config = net.a.run_dir().join("rules.toml");
    let rule = format!(
        "[[rule]]\nlisten = \"{PORT}\"\ntarget = \"{target}\"\naccept = \"after-target\"\n\
         health = {{ fails = 1, retry = \"100ms\" }}\n"
    );
    std::fs::write(&config, rule)?;
    let running = net.a.start("portfwd", &[config.display().to_string()])?;
    running.expect_log(SOON, "forwards")?;
    ensure!(seen(&net.a, to)? == "a refusal", "its target is dead from the start");
    for _ in 0..2 {
        let listener = listener(&net)?;
        wait_until(SOON, "it to listen", || road::is_listening(&net.a, PORT))?;
        let mut client = connect(&net.a, to)?;
        client.write_all(b"!")?;
        // Who only looked whether it lives says nothing.
        while accept(&listener)?.read(&mut [0])? == 0 {}
        ensure!(end(client) == "an end", "its target lives");
        drop(listener);
        // Found by a connection, which is reset; those after it are refused.
        let mut first = None;
        wait_until(SOON, "connections to be refused", || {
            let saw = seen(&net.a, to).unwrap_or_else(|error| error.to_string());
            let refused = saw == "a refusal";
            first.get_or_insert(saw);
            refused
        })?;
        ensure!(first.as_deref() == Some("a reset"), "the first saw {first:?}");
    }
    Ok(())
}

pub(super) fn refusals_over_flows_are_told_apart() -> Result<()> {
    let net = stage()?;
    let to = near(&net);
    let start = |name: &str| road::listening(&net.a, &[&PORT.to_string(), &format!("flow:{name}")], to);
    {
        let running = start("nowhere")?;
        is_reset(&net.a, to, &running, "end=\"unknown name\"")?;
    }
    {
        // Host b does not know it either.
        let running = start("web")?;
        is_reset(&net.a, to, &running, "end=\"unknown name\"")?;
    }
    {
        let server = net.b.start("flowcat", &["--listen", "web", "--raw", "--keep", "--exec", "true"])?;
        let _server = net.b.await_server(server, "web")?;
        let running = start("web")?;
        is_reset(&net.a, to, &running, "end=\"flow refused\"")?;
    }
    {
        // Somebody who is no forwarder: it ends the stream, or says what is no header.
        let server = net.b.start("flowcat", &["--listen", "web", "--keep", "--exec", "echo what do you want"])?;
        let _server = net.b.await_server(server, "web")?;
        let running = start("web")?;
        is_reset(&net.a, to, &running, "does not begin as a forwarder's header does")?;
    }
    Ok(())
}

/// A target whose backlog is full answers no more.
pub(super) fn a_target_that_is_silent_is_given_up() -> Result<()> {
    let net = stage()?;
    let full = net.b.inside({
        let at = SocketAddr::new(net.b.address(), SERVER);
        move || -> Result<TcpListener> {
            let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)?;
            rustix::net::bind(&socket, &at)?;
            rustix::net::listen(&socket, 0)?;
            Ok(socket.into())
        }
    })??;
    let at = full.local_addr()?;
    let waits = |within| net.a.inside(move || TcpStream::connect_timeout(&at, within));
    let mut held = Vec::new();
    while let Ok(stream) = waits(Duration::from_millis(300))? {
        held.push(stream);
        ensure!(held.len() < 100, "a backlog of nothing takes a hundred");
    }
    for way in [Way::Direct, Way::Hosts] {
        let road = Road::build(&net, way)?;
        let running = road.near.as_ref().context("a forwarder")?;
        is_reset(&net.a, near(&net), running, "end=\"timed out\"")?;
    }
    Ok(())
}

pub(super) fn a_flow_that_dies_resets_its_connections_and_the_next_asks_anew() -> Result<()> {
    const COUNT: usize = 200;
    let net = stage()?;
    let listener = listener(&net)?;
    let mut road = Road::build(&net, Way::Hosts)?;
    let mut pairs = Vec::new();
    for _ in 0..COUNT {
        pairs.push((road.connect()?, accept(&listener)?));
    }
    ensure!(flowring_tests::net::flows(&net.a)?.len() <= 4, "a flow for each worker carries them all");
    road.far.as_mut().context("the far side")?.kill()?;
    for (client, server) in pairs {
        ensure!(end(client) == "a reset", "a client saw something else");
        // Its forwarder was killed, and the kernel closed its socket.
        drop(server);
    }
    let ended = |running: &Running| running.err().matches("its flow is gone").count();
    let near_side = road.near.as_ref().context("near")?;
    wait_until(SOON, "each connection's line", || ended(near_side) == COUNT)?;
    road.far = Some(serve(&net.b, &listener.local_addr()?.to_string())?);
    let (mut client, mut server) = (road.connect()?, accept(&listener)?);
    client.write_all(b"again")?;
    let mut heard = [0; 5];
    server.read_exact(&mut heard)?;
    ensure!(&heard == b"again");
    Ok(())
}

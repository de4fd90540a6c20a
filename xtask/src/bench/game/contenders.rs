//! Proxies of UDP, set up for the same job: from a port of its own for each to the game server.

use anyhow::Result;
use lab::{Host, Running};

use super::{Stage, TARGET};
use crate::bench::STEP;
use crate::bench::contender::Contender;
use crate::bench::road::{self, Listens, Road, at, file};

/// All on one loopback. None comes first.
pub(super) fn on_one_host() -> Vec<Contender<Stage>> {
    vec![
        Contender::own("none", |stage| Road::new(&stage.b, TARGET, vec![])),
        Contender::own("gameproxy local", local),
        Contender::own("gameproxy, two processes over a local flow", |stage| flow(stage, &stage.b, "message")),
        Contender::own("portfwd", portfwd),
        Contender::peer("nginx stream", "nginx", nginx),
        Contender::peer("realm", "realm", realm),
        Contender::peer("rinetd", "rinetd", rinetd),
        Contender::peer("socat", "socat", socat),
        Contender::peer("quilkin", "quilkin", quilkin),
    ]
}

/// The players at a, the server at b.
pub(super) fn between_hosts() -> Vec<Contender<Stage>> {
    vec![
        Contender::own("none: UDP in clear", |stage| {
            Road::new(&stage.a, &format!("{}:9000", stage.b.address()), vec![])
        }),
        Contender::own("gameproxy over a message flow", |stage| flow(stage, &stage.a, "message")),
        Contender::own("gameproxy over a stream flow", |stage| flow(stage, &stage.a, "stream")),
    ]
}

fn up(host: &Host, port: u16, processes: Vec<Running>) -> Result<Road> {
    Road::up(host, Listens::Udp, port, processes)
}

fn local(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let words = ["local", "--log", "warn", "--redirect", &format!("{}={TARGET}", at(port))];
    up(&stage.b, port, vec![stage.b.start("gameproxy", &words)?])
}

/// From `near` over a flow to host b.
fn flow(stage: &Stage, near: &Host, carrier: &str) -> Result<Road> {
    let port = stage.port();
    let redirect = format!("{}={TARGET}", at(port));
    let words = ["--carrier", carrier, "--log", "info", "--redirect", &redirect];
    let far = stage.b.start("gameproxy", &[&["server", "--name", "game"], &words[..]].concat())?;
    let far = stage.b.await_server(far, "game")?;
    let client = near.start("gameproxy", &[&["client", "--server", "flow:game"], &words[..]].concat())?;
    client.expect_log(STEP, "is there")?;
    up(near, port, vec![client, far])
}

fn portfwd(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let words = ["--log", "warn", "--workers", "1", &format!("udp:{}", at(port)), &format!("udp:{TARGET}")];
    up(&stage.b, port, vec![stage.b.start("portfwd", &words)?])
}

fn nginx(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let server = format!("listen {} udp; proxy_pass {TARGET}; proxy_timeout 10s;", at(port));
    let config = road::nginx(&stage.b, 1, &server)?;
    up(&stage.b, port, vec![stage.b.start("nginx", &["-c", &config])?])
}

fn realm(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    up(&stage.b, port, vec![stage.b.start("realm", &["-u", "-l", &at(port), "-r", TARGET])?])
}

fn rinetd(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let config = file(&stage.b, "rinetd.conf", &format!("127.0.0.1 {port}/udp 127.0.0.1 9000/udp\n"))?;
    up(&stage.b, port, vec![stage.b.start("rinetd", &["-f", "-c", &config])?])
}

/// A process for each player, which ends 10 s after the last datagram.
fn socat(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let listen = format!("UDP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr");
    up(&stage.b, port, vec![stage.b.start("socat", &["-T", "10", &listen, &format!("UDP4:{TARGET}")])?])
}

fn quilkin(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    up(&stage.b, port, vec![stage.b.start("quilkin", &["proxy", "--port", &port.to_string(), "--to", TARGET])?])
}

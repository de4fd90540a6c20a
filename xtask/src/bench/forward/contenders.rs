//! Forwarders, set up for the same job: from a port of its own for each, which nothing is left on of the one before, to the
//! server.

use anyhow::{Context as _, Result};
use lab::{Host, Running};

use super::{Stage, TARGET};
use crate::bench::STEP;
use crate::bench::contender::Contender;
use crate::bench::road::{self, Listens, Road, at, file};

/// Whether its knee is of interest: none's, ours, and that of the peer which most take.
pub(super) fn bends(contender: &Contender<Stage>) -> bool {
    !contender.is_peer() || contender.name == "haproxy"
}

/// Both ends on one loopback. None comes first.
pub(super) fn on_one_host() -> Vec<Contender<Stage>> {
    vec![
        Contender::own("none", |stage| Road::new(&stage.b, TARGET, vec![])),
        Contender::own("portfwd, one worker", |stage| direct(stage, "1")),
        Contender::own("portfwd, two workers", |stage| direct(stage, "2")),
        Contender::own("portfwd over a local flow", |stage| flow(stage, &stage.b)),
        Contender::peer("haproxy", "haproxy", haproxy),
        Contender::peer("nginx stream", "nginx", nginx),
        Contender::peer("rinetd", "rinetd", rinetd),
        Contender::peer("socat", "socat", socat),
        Contender::peer("realm", "realm", realm),
    ]
}

/// The client at a, the server at b.
pub(super) fn between_hosts() -> Vec<Contender<Stage>> {
    vec![
        Contender::own("none: TCP in clear", |stage| {
            Road::new(&stage.a, &format!("{}:9000", stage.b.address()), vec![])
        }),
        Contender::own("portfwd over a flow", |stage| flow(stage, &stage.a)),
        Contender::peer("rathole with noise", "rathole", rathole),
        Contender::peer("dumbpipe (QUIC, iroh)", "dumbpipe", dumbpipe),
    ]
}

fn up(host: &Host, port: u16, processes: Vec<Running>) -> Result<Road> {
    Road::up(host, Listens::Tcp, port, processes)
}

fn direct(stage: &Stage, workers: &str) -> Result<Road> {
    let port = stage.port();
    let words = ["--log", "warn", "--workers", workers, &at(port), TARGET];
    up(&stage.b, port, vec![stage.b.start("portfwd", &words)?])
}

/// From `near` over a flow to host b.
fn flow(stage: &Stage, near: &Host) -> Result<Road> {
    let far = stage.b.start("portfwd", &["--log", "warn", "flow:forwarded", TARGET])?;
    let far = stage.b.await_server(far, "forwarded")?;
    let port = stage.port();
    let near_side = near.start("portfwd", &["--log", "warn", &at(port), "flow:forwarded"])?;
    up(near, port, vec![near_side, far])
}

fn haproxy(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let text = format!(
        "global\n maxconn 9000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n\
         listen forward\n bind 127.0.0.1:{port}\n server one {TARGET}\n"
    );
    let config = file(&stage.b, "haproxy.cfg", &text)?;
    up(&stage.b, port, vec![stage.b.start("haproxy", &["-db", "-f", &config])?])
}

fn nginx(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let config = road::nginx(&stage.b, 2, &format!("listen {}; proxy_pass {TARGET};", at(port)))?;
    up(&stage.b, port, vec![stage.b.start("nginx", &["-c", &config])?])
}

fn rinetd(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let config = file(&stage.b, "rinetd.conf", &format!("127.0.0.1 {port} 127.0.0.1 9000\n"))?;
    up(&stage.b, port, vec![stage.b.start("rinetd", &["-f", "-c", &config])?])
}

fn socat(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=4096,nodelay");
    up(&stage.b, port, vec![stage.b.start("socat", &["-b", "65536", &listen, &format!("TCP:{TARGET},nodelay")])?])
}

fn realm(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    up(&stage.b, port, vec![stage.b.start("realm", &["-l", &at(port), "-r", TARGET])?])
}

/// Its server is where clients connect, its client where the target is.
fn rathole(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let control = format!("{}:{}", stage.a.address(), stage.port());
    let keys = stage.a.run("rathole", &["--genkey"])?.out;
    let key = |which| key(&keys, which).with_context(|| format!("no {which} key in {keys:?}"));
    let (private, public) = (key("Private")?, key("Public")?);
    let near = format!(
        "[server]\nbind_addr = \"{control}\"\ndefault_token = \"x\"\n\
         [server.transport]\ntype = \"noise\"\n[server.transport.noise]\nlocal_private_key = \"{private}\"\n\
         [server.services.one]\nbind_addr = \"127.0.0.1:{port}\"\n"
    );
    let near = file(&stage.a, "rathole-server.toml", &near)?;
    let far = format!(
        "[client]\nremote_addr = \"{control}\"\ndefault_token = \"x\"\n\
         [client.transport]\ntype = \"noise\"\n[client.transport.noise]\nremote_public_key = \"{public}\"\n\
         [client.services.one]\nlocal_addr = \"{TARGET}\"\n"
    );
    let far = file(&stage.b, "rathole-client.toml", &far)?;
    let processes =
        vec![stage.a.start("rathole", &["--server", &near])?, stage.b.start("rathole", &["--client", &far])?];
    up(&stage.a, port, processes)
}

/// The line below "Private Key:" or "Public Key:".
fn key<'a>(said: &'a str, which: &str) -> Option<&'a str> {
    let mut lines = said.lines().skip_while(|line| !line.starts_with(which));
    lines.nth(1).map(str::trim)
}

/// A QUIC tunnel on iroh: its listener is where the target is, and prints a ticket that the other takes.
fn dumbpipe(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let far = stage.b.start("dumbpipe", &["listen-tcp", "--host", TARGET])?;
    let line = far.expect_log(STEP, "connect-tcp")?;
    let ticket = line.split_whitespace().last().context("dumbpipe prints no ticket")?.to_owned();
    let near = stage.a.start("dumbpipe", &["connect-tcp", "--addr", &at(port), &ticket])?;
    up(&stage.a, port, vec![near, far])
}

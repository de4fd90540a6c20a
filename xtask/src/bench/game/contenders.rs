//! Proxies of UDP, set up for the same job: from a port of its own for each to the game server.

use anyhow::{Context as _, Result};
use lab::{Host, Running, wait_until};

use super::{Stage, TARGET};
use crate::bench::STEP;
use crate::bench::peers::installed;

/// A proxy, or none.
pub(super) struct Contender {
    pub(super) name: &'static str,
    program: Option<&'static str>,
    pub(super) start: fn(&Stage) -> Result<Road>,
}

impl Contender {
    pub(super) fn is_installed(&self) -> bool {
        self.program.is_none_or(installed)
    }
}

/// Where players send to, and the proxy's processes.
pub(super) struct Road {
    pub(super) from: Host,
    pub(super) to: String,
    pub(super) processes: Vec<Running>,
}

/// All on one loopback. None comes first.
pub(super) fn on_one_host() -> Vec<Contender> {
    let own = |name, start| Contender { name, program: None, start };
    let other = |name, program, start| Contender { name, program: Some(program), start };
    vec![
        own("none", |stage| road(&stage.b, TARGET, vec![])),
        own("gameproxy local", local),
        own("gameproxy, two processes over a local flow", |stage| flow(stage, &stage.b, "message")),
        own("portfwd", portfwd),
        other("nginx stream", "nginx", nginx),
        other("realm", "realm", realm),
        other("rinetd", "rinetd", rinetd),
        other("socat", "socat", socat),
        other("quilkin", "quilkin", quilkin),
    ]
}

/// The players at a, the server at b.
pub(super) fn between_hosts() -> Vec<Contender> {
    let own = |name, start| Contender { name, program: None, start };
    vec![
        own("none: UDP in clear", |stage| road(&stage.a, &format!("{}:9000", stage.b.address()), vec![])),
        own("gameproxy over a message flow", |stage| flow(stage, &stage.a, "message")),
        own("gameproxy over a stream flow", |stage| flow(stage, &stage.a, "stream")),
    ]
}

fn road(from: &Host, to: &str, processes: Vec<Running>) -> Result<Road> {
    Ok(Road { from: from.clone(), to: to.to_owned(), processes })
}

/// A proxy at `host`, once its port is open.
fn up(host: &Host, port: u16, mut processes: Vec<Running>) -> Result<Road> {
    wait_until(STEP, "the proxy's port to be open", || {
        let listed = host.run("ss", &["-Hlun", &format!("sport = :{port}")]);
        let ended = processes.iter_mut().any(|running| !running.is_running());
        ended || listed.is_ok_and(|output| !output.out.trim().is_empty())
    })?;
    for running in &mut processes {
        anyhow::ensure!(running.is_running(), "it ended: {} {}", running.out(), running.err());
    }
    road(host, &at(port), processes)
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
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

/// A file of configuration in a host's run directory; its path.
fn file(host: &Host, name: &str, text: &str) -> Result<String> {
    let path = host.run_dir().join(name);
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path.display().to_string())
}

fn nginx(stage: &Stage) -> Result<Road> {
    let port = stage.port();
    let run = stage.b.run_dir().display().to_string();
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if std::path::Path::new(module).is_file() { format!("load_module {module};\n") } else { String::new() };
    let text = format!(
        "{load}user root;\ndaemon off;\nworker_processes 1;\npid {run}/nginx.pid;\nerror_log {run}/nginx.log;\n\
         events {{ worker_connections 9000; }}\nstream {{ server {{ listen {} udp; proxy_pass {TARGET}; proxy_timeout 10s; }} }}\n",
        at(port)
    );
    let config = file(&stage.b, "nginx.conf", &text)?;
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

//! Game servers, players, proxies.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::net::SOON;
use lab::{Host, Running, wait_until};
use serde_json::Value;

pub(super) use crate::forward_ops::stage::{Stage, metrics, round_trip, udp, udp_echo, udp_echo_of};

/// What begins Quake II's datagrams that belong to no game.
pub(super) const CONNECTIONLESS: &[u8] = b"\xff\xff\xff\xff";

/// Writes a configuration at a host.
pub(super) fn rules(host: &Host, text: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(host.run_dir())?;
    let path = host.run_dir().join("game.conf");
    // As editors do: never half of it.
    let fresh = host.run_dir().join("game.new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}

/// gameproxy in one process, once it answers.
pub(super) fn local(host: &Host, text: &str, more: &[&str]) -> Result<Running> {
    let path = rules(host, text)?;
    let path = path.to_str().context("a path of text")?;
    let running = host.start("gameproxy", &[&["local", "--config", path], more].concat())?;
    answering(host, running, "local")
}

/// The side near the game servers, once the name is served.
pub(super) fn server(host: &Host, name: &str, text: &str, more: &[&str]) -> Result<Running> {
    let path = rules(host, text)?;
    let path = path.to_str().context("a path of text")?;
    let running = host.start("gameproxy", &[&["server", "--name", name, "--config", path], more].concat())?;
    let running = answering(host, running, "server")?;
    host.await_server(running, name)
}

/// The side near the players.
pub(super) fn client(host: &Host, name: &str) -> Result<Running> {
    let running = host.start("gameproxy", &["client", "--server", &format!("flow:{name}")])?;
    answering(host, running, "client")
}

fn answering(host: &Host, mut running: Running, role: &str) -> Result<Running> {
    wait_until(SOON, "gameproxy to answer", || !running.is_running() || status(host, role).is_ok())?;
    ensure!(running.is_running(), "gameproxy ended: {}", running.err());
    Ok(running)
}

/// `gameproxy status ROLE --json` at a host.
pub(crate) fn status(host: &Host, role: &str) -> Result<Value> {
    let output = host.run("gameproxy", &["status", role, "--json"])?;
    ensure!(output.code() == 0, "gameproxy status ended with {}: {}", output.code(), output.err);
    Ok(serde_json::from_str(&output.out)?)
}

/// Waits until the status is as wished.
pub(crate) fn await_status(host: &Host, role: &str, what: &str, wished: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = None;
    let waited = wait_until(SOON, what, || {
        last = Some(status(host, role));
        matches!(&last, Some(Ok(status)) if wished(status))
    });
    match (waited, last) {
        (Ok(()), Some(status)) => status,
        (Err(error), Some(Ok(status))) => Err(error.context(format!("the status is {status}"))),
        (Err(error), _) => Err(error),
        (Ok(()), None) => bail!("no status"),
    }
}

/// A Quake II server that knows two queries and echoes what belongs to a game, with its name before it; what it heard, and from
/// whom, goes to who wants to know. It ends at `quit`.
pub(super) struct Quake {
    pub(super) at: SocketAddr,
    pub(super) heard: Receiver<(SocketAddr, Vec<u8>)>,
}

impl Quake {
    pub(super) fn at(host: &Host, port: u16, name: &'static str) -> Result<Self> {
        let socket = host.socket(port)?;
        socket.set_read_timeout(None)?;
        let (at, (tell, heard)) = (socket.local_addr()?, channel());
        std::thread::Builder::new().name(name.into()).spawn(move || play(&socket, name, &tell))?;
        Ok(Self { at, heard })
    }

    /// Ends it: its port is closed when this returns.
    pub(super) fn quit(self) -> Result<()> {
        loop {
            match self.heard.recv_timeout(SOON) {
                Ok(_) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => bail!("the server does not end"),
            }
        }
    }
}

fn play(socket: &UdpSocket, name: &str, tell: &Sender<(SocketAddr, Vec<u8>)>) {
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let said = &buffer[..len];
        let answer = match said.strip_prefix(CONNECTIONLESS) {
            Some(b"status\n" | b"status") => [CONNECTIONLESS, b"print\n\\hostname\\", name.as_bytes(), b"\n"].concat(),
            Some(b"info 34\n") => [CONNECTIONLESS, b"info\n", name.as_bytes(), b" q2dm1 0/8\n"].concat(),
            Some(_) => [CONNECTIONLESS, b"print\nwhat?\n"].concat(),
            None => [name.as_bytes(), b":", said].concat(),
        };
        // Who is not interested any more has dropped its end.
        let _ = tell.send((from, said.to_vec()));
        if socket.send_to(&answer, from).is_err() || said == b"quit" {
            return;
        }
    }
}

/// Nothing comes, as far as one can tell in a short time.
pub(super) fn hears_nothing(socket: &UdpSocket) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut buffer = [0; 2048];
    match socket.recv_from(&mut buffer) {
        Ok((len, from)) => bail!("{:?} came from {from}", String::from_utf8_lossy(&buffer[..len])),
        Err(_) => Ok(()),
    }
}

/// So many datagrams were dropped for a reason.
pub(super) fn dropped(status: &Value, why: &str) -> u64 {
    status["dropped"][why].as_u64().unwrap_or(0)
}

//! Hosts without irmd, echo servers, files of rules.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::net::SOON;
use lab::{Host, Lab, Running, wait_until};
use serde_json::Value;

/// Two hosts on a switch, and no daemon.
pub(crate) struct Stage {
    pub(crate) a: Host,
    pub(crate) b: Host,
    pub(crate) lab: Lab,
}

impl Stage {
    pub(crate) fn up() -> Result<Self> {
        let lab = Lab::new()?;
        let [a, b] = lab.hosts(["a", "b"])?;
        Ok(Self { a, b, lab })
    }
}

/// Writes a file of rules at a host.
pub(crate) fn rules(host: &Host, text: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(host.run_dir())?;
    let path = host.run_dir().join("rules.conf");
    // As editors do: never half of it.
    let fresh = host.run_dir().join("rules.new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}

/// portfwd in the foreground with a file of rules, once all of them listen.
pub(crate) fn portfwd(host: &Host, text: &str, more: &[&str]) -> Result<Running> {
    let path = rules(host, text)?;
    let path = path.to_str().context("a path of text")?;
    let mut running = host.start("portfwd", &[&["--config", path], more].concat())?;
    wait_until(SOON, "portfwd to answer", || !running.is_running() || status(host).is_ok())?;
    ensure!(running.is_running(), "portfwd ended: {}", running.err());
    Ok(running)
}

/// `portfwd status --json` at a host.
pub(crate) fn status(host: &Host) -> Result<Value> {
    let output = host.run("portfwd", &["status", "--json"])?;
    ensure!(output.code() == 0, "portfwd status ended with {}: {}", output.code(), output.err);
    Ok(serde_json::from_str(&output.out)?)
}

/// A rule's row in the status.
pub(crate) fn rule(host: &Host, name: &str) -> Result<Value> {
    let status = status(host)?;
    let rules = status["rules"].as_array().context("rules")?;
    rules.iter().find(|rule| rule["name"] == name).cloned().with_context(|| format!("no rule {name} in {status}"))
}

/// Whatever is sent to it comes back; to its end, each way for itself. Serves for ever.
pub(crate) fn echo(host: &Host, port: u16) -> Result<SocketAddr> {
    let at = SocketAddr::new(host.address(), port);
    let listener = host.listener(port)?;
    listener.set_nonblocking(true)?;
    std::thread::Builder::new().name("echo".into()).spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await?;
                serving.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    // Whoever resets has had enough.
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
                });
                while serving.try_join_next().is_some() {}
            }
        })
    })?;
    Ok(at)
}

/// A connection from a host.
pub(crate) fn connect(from: &Host, to: SocketAddr) -> Result<TcpStream> {
    let stream = from.inside(move || TcpStream::connect_timeout(&to, SOON))?;
    let stream = stream.with_context(|| format!("connecting to {to}"))?;
    stream.set_read_timeout(Some(2 * SOON))?;
    Ok(stream)
}

/// Says something and hears it again.
pub(crate) fn ask(stream: &mut TcpStream, words: &str) -> Result<()> {
    stream.write_all(words.as_bytes())?;
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).with_context(|| format!("{words} did not come back"))?;
    ensure!(heard == words.as_bytes(), "{:?} came back for {words}", String::from_utf8_lossy(&heard));
    Ok(())
}

/// That a connection is reset, now or soon.
pub(crate) fn expect_reset(mut stream: TcpStream) -> Result<()> {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => bail!("no reset but {other:?}, {} bytes", heard.len()),
    }
}

/// That who connects is reset, perhaps before it knows that it is connected.
pub(crate) fn expect_turned_away(from: &Host, to: SocketAddr) -> Result<()> {
    match connect(from, to) {
        Ok(stream) => expect_reset(stream),
        Err(error) => {
            let reset = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::ConnectionReset);
            if reset { Ok(()) } else { Err(error) }
        }
    }
}

/// A UDP socket at a host that does not wait for ever.
pub(crate) fn udp(host: &Host, port: u16) -> Result<UdpSocket> {
    let socket = host.socket(port)?;
    socket.set_read_timeout(Some(2 * SOON))?;
    Ok(socket)
}

/// Every datagram comes back, from a thread that serves until `quit` comes.
pub(crate) fn udp_echo(host: &Host, port: u16) -> Result<SocketAddr> {
    udp_echo_of(host.socket(port)?)
}

/// The same with a socket that there is.
pub(crate) fn udp_echo_of(socket: UdpSocket) -> Result<SocketAddr> {
    socket.set_read_timeout(None)?;
    let at = socket.local_addr()?;
    std::thread::Builder::new().name("udp-echo".into()).spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if socket.send_to(&buffer[..len], from).is_err() || &buffer[..len] == b"quit" {
                return;
            }
        }
    })?;
    Ok(at)
}

/// What comes back of a datagram; sent again until something does.
pub(crate) fn round_trip(socket: &UdpSocket, to: SocketAddr, words: &[u8]) -> Result<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut heard = vec![0; 65_536];
    for _ in 0..40 {
        socket.send_to(words, to)?;
        if let Ok((len, from)) = socket.recv_from(&mut heard) {
            ensure!(from == to, "the answer came from {from}, not from {to}");
            heard.truncate(len);
            return Ok(heard);
        }
    }
    bail!("nothing came back from {to}")
}

/// What is sent to a socket, and all that comes back.
pub(crate) fn exchange(mut stream: impl Read + Write, words: &[u8]) -> Result<String> {
    stream.write_all(words)?;
    let mut answer = Vec::new();
    // Nonsense may be answered by a reset.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The page of metrics that is served there.
pub(crate) fn metrics(from: &Host, at: SocketAddr) -> Result<String> {
    exchange(connect(from, at)?, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

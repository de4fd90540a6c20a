//! The ways from a client at host a to a server at host b: without a forwarder, and through one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use flowring_tests::net::{Net, SOON};
use lab::{Host, Running, wait_until};

/// Where portfwd listens at host a.
pub(super) const PORT: u16 = 7005;
/// Where servers listen at host b.
pub(super) const SERVER: u16 = 8005;

/// What is between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing but the network.
    Bare,
    /// A forwarder at host a.
    Direct,
    /// Two forwarders at host a, with a flow between them.
    Local,
    /// A forwarder at each host, with a flow between them.
    Hosts,
}

/// A way that can be gone.
pub(super) struct Road<'a> {
    net: &'a Net,
    to: SocketAddr,
    /// The forwarder that clients connect to.
    pub(super) near: Option<Running>,
    /// The one that serves the flow.
    pub(super) far: Option<Running>,
}

/// The stage of these tests: host a finds `web` at host b.
pub(super) fn stage() -> Result<Net> {
    Net::up(&["web"])
}

/// Starts portfwd and waits until it listens.
pub(super) fn portfwd(host: &Host, args: &[&str]) -> Result<Running> {
    let running = host.start("portfwd", args)?;
    running.expect_log(SOON, "forwards")?;
    Ok(running)
}

/// Serves the flow `web` at a host by what listens at `target`.
pub(super) fn serve(host: &Host, target: &str) -> Result<Running> {
    let server = host.start("portfwd", &["flow:web", target])?;
    host.await_server(server, "web")
}

impl<'a> Road<'a> {
    /// Forwarders as they are needed.
    pub(super) fn build(net: &'a Net, way: Way) -> Result<Self> {
        let server = SocketAddr::new(net.b.address(), SERVER);
        let near = SocketAddr::new(net.a.address(), PORT);
        let (target, port) = (server.to_string(), PORT.to_string());
        let mut road = Self { net, to: near, near: None, far: None };
        match way {
            Way::Bare => road.to = server,
            Way::Direct => road.near = Some(listening(&net.a, &[&port, &target], near)?),
            Way::Local | Way::Hosts => {
                road.far = Some(serve(if way == Way::Local { &net.a } else { &net.b }, &target)?);
                road.near = Some(listening(&net.a, &[&port, "flow:web"], near)?);
            }
        }
        Ok(road)
    }

    /// A client's connection.
    pub(super) fn connect(&self) -> Result<TcpStream> {
        connect(&self.net.a, self.to)
    }
}

/// portfwd, once it takes connections at `at`.
pub(super) fn listening(host: &Host, args: &[&str], at: SocketAddr) -> Result<Running> {
    let mut running = portfwd(host, args)?;
    wait_until(SOON, "portfwd to listen", || !running.is_running() || is_listening(host, at.port()))?;
    Ok(running)
}

/// Whether something listens on a port, without connecting to it.
pub(super) fn is_listening(host: &Host, port: u16) -> bool {
    let output = host.run("ss", &["-Hltn", &format!("sport = :{port}")]);
    output.is_ok_and(|output| !output.out.trim().is_empty())
}

/// A connection from a host, whose reads and writes do not wait for ever.
pub(super) fn connect(from: &Host, to: SocketAddr) -> Result<TcpStream> {
    let stream = from.inside(move || TcpStream::connect_timeout(&to, SOON))?;
    let stream = stream.with_context(|| format!("connecting to {to}"))?;
    patient(&stream)?;
    Ok(stream)
}

fn patient(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(2 * SOON))?;
    stream.set_write_timeout(Some(2 * SOON))?;
    stream.set_nodelay(true)?;
    Ok(())
}

/// A listening socket at host b's port for servers.
pub(super) fn listener(net: &Net) -> Result<TcpListener> {
    let listener = net.b.listener(SERVER)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next connection that a server gets.
pub(super) fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let mut accepted = None;
    wait_until(SOON + Duration::from_secs(5), "a connection to be accepted", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    })?;
    let (stream, _) = accepted.context("accepted")?;
    stream.set_nonblocking(false)?;
    patient(&stream)?;
    Ok(stream)
}

//! Peers of April 2016, played by scripts: the payloads on the wire are those of the captures.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::capture::{Datagram, datagrams};
use flowring_tests::cases;
use flowring_tests::harness::Case;
use flowring_tests::net::{Net, SOON, await_flows};
use libflow::blocking::Stack;
use libflow::{AllocError, EndReason, FlowError};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_classic_client_gets_the_payloads_of_the_capture,
        a_classic_request_is_cut_at_its_nul_as_in_the_capture,
        a_classic_client_learns_of_the_end_by_port_unreachable,
        a_doubled_classic_request_is_echoed_from_the_same_port,
        an_unknown_name_of_a_classic_client_is_met_with_silence,
        a_classic_server_gets_the_sdus_of_the_capture,
        an_echo_of_another_name_is_no_answer,
        the_end_of_a_classic_servers_port_is_the_end_of_the_flow,
    ]
}

/// Host b serves "echo-server" for classic clients as in 2016.
fn stage() -> Result<(Net, lab::Running)> {
    let net = Net::bare()?;
    net.b.bootstrap_with(&[], &["--echo", "on-arrival"])?;
    let server = net.b.serve("echo-server")?;
    Ok((net, server))
}

fn receive(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut bytes = [0; 4096];
    let (length, from) = socket.recv_from(&mut bytes)?;
    Ok((bytes[..length].to_vec(), from))
}

/// Plays the client's half of a captured conversation from port `client`; every answer must be the captured one. Gives
/// the socket and the server's port.
fn play(net: &Net, script: &[Datagram], client: u16) -> Result<(UdpSocket, SocketAddr)> {
    let socket = net.a.socket(0)?;
    let mut server: Option<SocketAddr> = None;
    for datagram in script.iter().filter(|datagram| datagram.from == client || datagram.to == client) {
        if datagram.from == client {
            let to = if datagram.to == 3359 { net.b.shim() } else { server.context("an SDU before the echo")? };
            socket.send_to(&datagram.payload, to)?;
        } else {
            let (payload, from) = receive(&socket).context("nothing came back")?;
            assert_eq!(payload, datagram.payload);
            ensure!(from.port() != 3359 && server.is_none_or(|known| known == from), "{from}");
            server = Some(from);
        }
    }
    Ok((socket, server.context("the capture has no echo")?))
}

fn a_classic_client_gets_the_payloads_of_the_capture() -> Result<()> {
    let (net, _server) = stage()?;
    let mut script = datagrams("flow-4d348ef9s.pcap");
    // The last SDU was sent after the server's end.
    script.pop();
    let client = script[0].from;
    let (_socket, _) = play(&net, &script, client)?;
    let row = await_flows(&net.b, 1)?.remove(0);
    assert_eq!((&row["source_name"], &row["classic"]), (&"John Day".into(), &true.into()));
    Ok(())
}

fn a_classic_request_is_cut_at_its_nul_as_in_the_capture() -> Result<()> {
    let (net, _server) = stage()?;
    let all = datagrams("c-server-edge-requests.pcap");
    let requests: Vec<Datagram> = all
        .iter()
        .filter(|datagram| datagram.to == 3359 && datagram.payload.starts_with(b"echo-server"))
        .cloned()
        .collect();
    assert_eq!(requests.len(), 3, "bare, with a NUL, with a NUL and more");
    for request in requests {
        let script: Vec<Datagram> =
            all.iter().filter(|datagram| datagram.payload != b"after dealloc").cloned().collect();
        play(&net, &script, request.from)?;
    }
    Ok(())
}

fn a_classic_client_learns_of_the_end_by_port_unreachable() -> Result<()> {
    let (net, mut server) = stage()?;
    let script = datagrams("flow-4d348ef9s.pcap");
    let (socket, sp) = play(&net, &script[..script.len() - 1], script[0].from)?;
    socket.connect(sp)?;
    server.signal(lab::Signal::INT)?;
    server.wait(Duration::from_secs(5))?;
    await_flows(&net.b, 0)?;
    let last = script.last().context("an SDU after the end")?;
    socket.send(&last.payload)?;
    let error = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    Ok(())
}

fn a_doubled_classic_request_is_echoed_from_the_same_port() -> Result<()> {
    let (net, _server) = stage()?;
    let socket = net.a.socket(0)?;
    let mut ports = Vec::new();
    for _ in 0..3 {
        socket.send_to(b"echo-server", net.b.shim())?;
        let (payload, from) = receive(&socket)?;
        assert_eq!(payload, b"echo-server");
        ports.push(from);
    }
    ensure!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    await_flows(&net.b, 1).map(drop)
}

fn an_unknown_name_of_a_classic_client_is_met_with_silence() -> Result<()> {
    let (net, _server) = stage()?;
    let socket = net.a.socket(0)?;
    socket.send_to(b"nobody", net.b.shim())?;
    // The shim answers in order: an echo to the second request shows that the first got none.
    let other = net.a.socket(0)?;
    other.send_to(b"echo-server", net.b.shim())?;
    receive(&other)?;
    socket.set_nonblocking(true)?;
    assert_eq!(socket.recv(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    Ok(())
}

/// What a scripted classic server does with a request.
struct Script<'a> {
    echo: &'a [u8],
    copies: usize,
    late: Duration,
}

/// A classic server at host b: answers one request as the script says, then echoes `sdus` SDUs and gives them.
fn serve(net: &Net, listen: &UdpSocket, script: &Script<'_>, sdus: usize) -> Result<Vec<Vec<u8>>> {
    let flow = net.b.socket(0)?;
    let (request, client) = receive(listen)?;
    ensure!(request.starts_with(b"echo-server\0"), "a classic server reads the name up to the NUL: {request:?}");
    // What comes meanwhile is the same request again.
    listen.set_read_timeout(Some(Duration::from_millis(10)))?;
    lab::wait_until(script.late + SOON, "the moment of the echo", {
        let deadline = lab::Deadline::after(script.late);
        move || deadline.is_past()
    })?;
    for _ in 0..script.copies {
        flow.send_to(script.echo, client)?;
    }
    let mut heard = Vec::new();
    for _ in 0..sdus {
        let (sdu, from) = receive(&flow)?;
        assert_eq!(from, client);
        flow.send_to(&sdu, from)?;
        heard.push(sdu);
    }
    Ok(heard)
}

/// The SDUs that the classic client of the captures sends.
fn captured_sdus() -> Vec<Vec<u8>> {
    let all = datagrams("c-client-vs-scripted-server.pcap");
    let client = all[0].from;
    all.iter().filter(|sent| sent.from == client && sent.to != 3359).map(|sent| sent.payload.clone()).collect()
}

fn a_classic_server_gets_the_sdus_of_the_capture() -> Result<()> {
    let net = Net::bare()?;
    net.a.bootstrap(&[("echo-server", &net.b)])?;
    let stack = Stack::find(Some(net.a.run_dir()))?;
    let sdus = captured_sdus();
    assert_eq!(sdus.len(), 2);
    let scripts = [
        Script { echo: b"echo-server", copies: 1, late: Duration::ZERO },
        Script { echo: b"echo-server\0", copies: 1, late: Duration::ZERO },
        Script { echo: b"echo-server", copies: 1, late: Duration::from_secs(3) },
        Script { echo: b"echo-server", copies: 2, late: Duration::ZERO },
    ];
    for script in &scripts {
        // Open before anybody asks.
        let listen = net.b.socket(3359)?;
        let heard = std::thread::scope(|scope| {
            let server = scope.spawn(|| serve(&net, &listen, script, sdus.len()));
            let flow = stack.alloc("echo-server").timeout(SOON).wait()?;
            ensure!(flow.peer().classic, "{:?}", flow.peer());
            let mut buffer = [0; 2048];
            for sdu in &sdus {
                flow.send(sdu)?;
                // A second echo is never an SDU.
                let length = flow.recv_within(&mut buffer, SOON)?;
                assert_eq!(&buffer[..length], sdu);
            }
            server.join().expect("no panic")
        })?;
        assert_eq!(heard, sdus);
    }
    Ok(())
}

fn an_echo_of_another_name_is_no_answer() -> Result<()> {
    let net = Net::bare()?;
    net.a.bootstrap(&[("echo-server", &net.b)])?;
    let stack = Stack::find(Some(net.a.run_dir()))?;
    for echo in [b"WRONGECHOxx".as_slice(), b"echo", b"echo-server2"] {
        let script = Script { echo, copies: 3, late: Duration::ZERO };
        let listen = net.b.socket(3359)?;
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&net, &listen, &script, 0));
            match stack.alloc("echo-server").timeout(Duration::from_secs(1)).wait() {
                Err(AllocError::TimedOut { .. }) => Ok(()),
                other => bail!("{other:?}"),
            }
        })?;
    }
    Ok(())
}

fn the_end_of_a_classic_servers_port_is_the_end_of_the_flow() -> Result<()> {
    let net = Net::bare()?;
    net.a.bootstrap(&[("echo-server", &net.b)])?;
    let stack = Stack::find(Some(net.a.run_dir()))?;
    let script = Script { echo: b"echo-server", copies: 1, late: Duration::ZERO };
    let listen = net.b.socket(3359)?;
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&net, &listen, &script, 1));
        let flow = stack.alloc("echo-server").timeout(SOON).wait()?;
        flow.send(b"one")?;
        let mut buffer = [0; 64];
        flow.recv_within(&mut buffer, SOON)?;
        server.join().expect("no panic")?;
        // Its port is closed now; the kernel says so after the next SDU.
        flow.send(b"two")?;
        match flow.recv_within(&mut buffer, Duration::from_secs(1)) {
            Err(FlowError::Gone(EndReason::PeerUnknown)) => Ok(()),
            other => bail!("{other:?}"),
        }
    })
}

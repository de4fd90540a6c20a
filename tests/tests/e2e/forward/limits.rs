//! Many connections, stalled ones, no descriptors.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::{SOON, flows};
use lab::wait_until;

use super::road::{self, PORT, Road, SERVER, Way, accept, connect, listener, stage};
use flowring_tests::flows::pattern;

/// What a stalled client is sent: more than all queues on its way hold.
const FLOOD: usize = 64 << 20;

/// Writes for ever to who does not read, until that one is gone.
fn flood(mut stream: TcpStream) {
    let block = vec![0; 65_536];
    for _ in 0..FLOOD / block.len() {
        if stream.write_all(&block).is_err() {
            return;
        }
    }
}

pub(super) fn stalled_clients_hold_up_no_other() -> Result<()> {
    const STALLED: usize = 100;
    let net = stage()?;
    let listener = listener(&net)?;
    let wanted = pattern(3_000_000);
    for way in [Way::Direct, Way::Local, Way::Hosts] {
        let road = Road::build(&net, way)?;
        let mut stalled = Vec::new();
        std::thread::scope(|scope| -> Result<()> {
            for _ in 0..STALLED {
                stalled.push(road.connect()?);
                let server = accept(&listener)?;
                scope.spawn(move || flood(server));
            }
            // All of them are stuck: what they were sent has filled what there is.
            for _ in 0..3 {
                let mut client = road.connect()?;
                let mut server = accept(&listener)?;
                let sent = &wanted;
                let serving = scope.spawn(move || server.write_all(sent));
                let mut got = Vec::new();
                client.read_to_end(&mut got)?;
                serving.join().expect("no panic")?;
                ensure!(got == wanted, "{} bytes came beside stalled clients, {way:?}", got.len());
            }
            stalled.clear();
            Ok(())
        })?;
    }
    Ok(())
}

pub(super) fn a_forwarder_without_descriptors_waits_and_goes_on() -> Result<()> {
    const CLIENTS: usize = 60;
    let net = stage()?;
    let listener = listener(&net)?;
    let to = SocketAddr::new(net.a.address(), PORT);
    let folder = lab::binaries::folder().context("the folder of the programs")?;
    // Hard, too: a program raises its soft limit.
    let target = SocketAddr::new(net.b.address(), SERVER);
    let words = format!("ulimit -n 60; exec {}/portfwd --workers 1 {PORT} {target}", folder.display());
    let running = net.a.start("sh", &["-c", &words])?;
    running.expect_log(SOON, "forwards")?;
    wait_until(SOON, "portfwd to listen", || road::is_listening(&net.a, PORT))?;
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(&net.a, to)).collect::<Result<_>>()?;
    running.expect_log(SOON, "no connection can be accepted")?;
    // As those that have a target end, the others get one: every client hears from a server, or is told that there was no room.
    let (mut served, mut refused) = (0, 0);
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| serve_until_told(&listener));
        for mut client in clients {
            let mut word = String::new();
            match client.read_to_string(&mut word) {
                Ok(_) => {
                    ensure!(word == "served", "{word:?}");
                    served += 1;
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => refused += 1,
                Err(error) => return Err(error.into()),
            }
        }
        // Tells the server.
        drop(TcpStream::connect(listener.local_addr()?));
        let mut last = net.a.inside(move || TcpStream::connect(target))??;
        last.write_all(b"over")?;
        Ok(())
    })?;
    // How many depends on how soon the server serves.
    ensure!(served + refused == CLIENTS && served >= 10, "{served} were served, {refused} refused");
    let lines = running.err().matches("no connection can be accepted").count();
    ensure!(lines < 30, "it said so {lines} times");
    Ok(())
}

/// Serves each connection with a word; one that says "over" ends it.
fn serve_until_told(listener: &TcpListener) {
    while let Ok(mut stream) = accept(listener) {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
        let mut word = [0; 4];
        if stream.read(&mut word).is_ok_and(|len| &word[..len] == b"over") {
            return;
        }
        let _ = stream.write_all(b"served");
    }
}

pub(super) fn connections_beyond_one_flow_get_another() -> Result<()> {
    const COUNT: usize = 1_050;
    let net = stage()?;
    let listener = listener(&net)?;
    let to = SocketAddr::new(net.a.address(), PORT);
    let _far = road::serve(&net.b, &SocketAddr::new(net.b.address(), SERVER).to_string())?;
    let _near = road::listening(&net.a, &["--workers", "1", &PORT.to_string(), "flow:web"], to)?;
    let mut pairs = Vec::new();
    for index in 0..COUNT {
        let pair = (connect(&net.a, to)?, accept(&listener).with_context(|| format!("connection {index}"))?);
        pairs.push(pair);
    }
    ensure!(flows(&net.a)?.len() == 2, "{} flows", flows(&net.a)?.len());
    for (client, server) in &mut pairs {
        client.write_all(b"ping")?;
        let mut heard = [0; 4];
        server.read_exact(&mut heard)?;
        ensure!(&heard == b"ping");
    }
    Ok(())
}

/// Nearly one descriptor each: what is left of 20,000 is for the program itself and its twenty flows.
pub(super) fn as_many_connections_as_descriptors_go_over_flows() -> Result<()> {
    const LIMIT: u64 = 20_000;
    const COUNT: usize = 19_900;
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if most.is_some_and(|most| most < LIMIT) {
        return flowring_tests::harness::lacks(
            "as_many_connections_as_descriptors_go_over_flows",
            &format!("no program may have {LIMIT} descriptors"),
        );
    }
    let net = stage()?;
    let folder = lab::binaries::folder().context("the folder of the programs")?.display().to_string();
    let limited =
        |host: &lab::Host, words: &str| host.start("sh", &["-c", &format!("ulimit -n {LIMIT}; exec {folder}/{words}")]);
    let target = SocketAddr::new(net.b.address(), SERVER);
    let server = net.b.start("examples/forward-load", &["serve", &target.to_string()])?;
    server.expect_line(SOON, "serving")?;
    let far = limited(&net.b, &format!("portfwd --log warn --workers 1 flow:web {target}"))?;
    let far = net.b.await_server(far, "web")?;
    let near = limited(&net.a, &format!("portfwd --log warn --workers 1 {PORT} flow:web"))?;
    wait_until(SOON, "portfwd to listen", || road::is_listening(&net.a, PORT))?;
    let at = SocketAddr::new(net.a.address(), PORT).to_string();
    let holder = net.a.start("examples/forward-load", &["hold", &at, "--count", &COUNT.to_string()])?;
    let held = holder.expect_line(20 * SOON, "held")?;
    ensure!(held.contains(&format!("\"held\":{COUNT}")), "{held}\n{}\n{}", near.err(), far.err());
    // Beside them one more goes through as ever.
    let trip = net.a.run("examples/forward-load", &["connect", &at, "--abreast", "1", "--seconds", "0.1"])?;
    ensure!(trip.out.contains("\"failed\":0"), "{} {}", trip.out, trip.err);
    Ok(())
}

//! How connections end, through a forwarder as without one.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flowring_tests::net::SOON;
use lab::Link;

use super::road::{Road, Way, accept, listener, portfwd, stage};
use super::stories::{STORIES, Saw, Story};

/// What client and server saw.
fn tell(road: &Road<'_>, listener: &TcpListener, story: &Story) -> Result<(Saw, Saw)> {
    std::thread::scope(|scope| {
        let server = scope.spawn(|| (story.server)(accept(listener)?));
        let client = (story.client)(road.connect()?).context("the client")?;
        Ok((client, server.join().expect("no panic").context("the server")?))
    })
}

fn compare(way: Way, link: Option<Link>) -> Result<()> {
    let net = stage()?;
    let listener = listener(&net)?;
    let bare = Road::build(&net, Way::Bare)?;
    let without: Result<Vec<_>> = STORIES
        .iter()
        .map(|story| tell(&bare, &listener, story).with_context(|| format!("{}, without", story.name)))
        .collect();
    // Set now: the network's own RST is sent once, and may be lost.
    if let Some(link) = link {
        net.b.link().set(link)?;
    }
    let road = Road::build(&net, way)?;
    for (story, without) in STORIES.iter().zip(without?) {
        let with = tell(&road, &listener, story).with_context(|| format!("{}, {way:?}", story.name))?;
        ensure!(with == without, "{}: {with:?} {way:?}, {without:?} without a forwarder", story.name);
    }
    Ok(())
}

pub(super) fn ends_are_the_same_when_forwarded_directly() -> Result<()> {
    compare(Way::Direct, None)
}

pub(super) fn ends_are_the_same_over_a_local_flow() -> Result<()> {
    compare(Way::Local, None)
}

pub(super) fn ends_are_the_same_over_a_flow_between_hosts() -> Result<()> {
    compare(Way::Hosts, None)
}

/// The last words of a connection and its bytes may come in any order.
pub(super) fn ends_are_the_same_over_a_bad_link() -> Result<()> {
    compare(Way::Hosts, Some(Link { delay: Duration::from_millis(5), loss: 0.02, seed: 11, ..Link::CLEAN }))
}

/// From a Unix socket to a TCP port, and from one to a Unix socket.
pub(super) fn unix_sockets_are_forwarded() -> Result<()> {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    let net = stage()?;
    let listener = listener(&net)?;
    let path = net.a.run_dir().join("in.sock").display().to_string();
    let target = listener.local_addr()?.to_string();
    let (listen, port) = (format!("unix:{path}"), super::road::PORT.to_string());
    let _first = portfwd(&net.a, &[&listen, &target])?;
    let at = std::net::SocketAddr::new(net.a.address(), super::road::PORT);
    let _second = super::road::listening(&net.a, &[&port, &listen], at)?;
    let echo = |mut client: Box<dyn ReadWrite>| -> Result<()> {
        std::thread::scope(|scope| {
            let server = scope.spawn(|| -> Result<()> {
                let mut stream = accept(&listener)?;
                let mut heard = [0; 5];
                stream.read_exact(&mut heard)?;
                Ok(stream.write_all(&heard)?)
            });
            client.write_all(b"hello")?;
            let mut heard = String::new();
            client.read_to_string(&mut heard)?;
            ensure!(heard == "hello", "{heard:?} came back");
            server.join().expect("no panic")
        })
    };
    trait ReadWrite: std::io::Read + std::io::Write {}
    impl<T: std::io::Read + std::io::Write> ReadWrite for T {}
    let unix = UnixStream::connect(&path)?;
    unix.set_read_timeout(Some(SOON))?;
    echo(Box::new(unix))?;
    echo(Box::new(super::road::connect(&net.a, at)?))
}

//! Two hosts with a proxy and a relay, clients and targets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flowring_tests::net::{Net, SOON};
use lab::{Host, Running};
use serde_json::Value;

use flowring_tests::flows::pattern;

/// What tracks run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Flows,
    Tcp,
}

pub(super) const BOTH: [Over; 2] = [Over::Flows, Over::Tcp];
/// A relay's port for TCP tracks.
const TRACKS: u16 = 9100;

/// A proxy at one host, a relay at the other, and a target beside the relay.
pub(super) struct Stage {
    pub(super) proxy: Running,
    pub(super) relay: Running,
    /// Where clients connect, at host a.
    pub(super) entry: SocketAddr,
    pub(super) target: Option<TcpListener>,
    pub(super) net: Net,
}

impl Stage {
    pub(super) fn up(over: Over, tracks: u16) -> Result<Self> {
        Self::with(over, tracks, &[])
    }

    /// Both are given these words, too.
    pub(super) fn with(over: Over, tracks: u16, words: &[&str]) -> Result<Self> {
        let net = match over {
            Over::Flows => Net::up(&["bulk"])?,
            Over::Tcp => Net::bare()?,
        };
        let target = net.b.inside(|| TcpListener::bind("127.0.0.1:0"))??;
        let to = target.local_addr()?.to_string();
        let (accept, dial) = match over {
            Over::Flows => ("flow:bulk".to_owned(), "flow:bulk".to_owned()),
            Over::Tcp => (format!("tcp:0.0.0.0:{TRACKS}"), format!("tcp:{}:{TRACKS}", net.b.address())),
        };
        let relay = start(&net.b, &[&["relay", "--accept", &accept, "--to", &to], words].concat())?;
        let tracks = tracks.to_string();
        let proxy = ["proxy", "--listen", "127.0.0.1:0", "--to", &dial, "-n", &tracks];
        let proxy = start(&net.a, &[&proxy, words].concat())?;
        let entry = listening(&proxy)?;
        Ok(Self { proxy, relay, entry, target: Some(target), net })
    }

    pub(super) fn connect(&self) -> Result<TcpStream> {
        connect(&self.net.a, self.entry)
    }

    /// A client and the connection that comes of it at the target.
    pub(super) fn pair(&self) -> Result<(TcpStream, TcpStream)> {
        let client = self.connect()?;
        Ok((client, self.accept()?))
    }

    pub(super) fn accept(&self) -> Result<TcpStream> {
        let target = self.target.as_ref().context("the target is there")?;
        lab::wait_until(SOON, "a connection at the target", || readable(target))?;
        let (stream, _) = target.accept()?;
        patient(&stream)?;
        Ok(stream)
    }
}

fn readable(target: &TcpListener) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(target, PollFlags::IN)], Some(&zero)).is_ok_and(|ready| ready > 0)
}

/// Waits ten times as long as anything takes: then it fails instead of standing still.
pub(super) fn patient(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(10 * SOON))?;
    stream.set_write_timeout(Some(10 * SOON))?;
    Ok(())
}

pub(super) fn connect(at: &Host, to: SocketAddr) -> Result<TcpStream> {
    let stream = at.inside(|| TcpStream::connect_timeout(&to, SOON))??;
    patient(&stream)?;
    Ok(stream)
}

/// Starts it and waits until it serves.
pub(super) fn start(at: &Host, words: &[&str]) -> Result<Running> {
    let running = at.start("tcpstripe", words)?;
    running.expect_line(SOON, "ready")?;
    Ok(running)
}

/// The address in "listening on ADDRESS, …" and "taking tracks on tcp:ADDRESS".
pub(super) fn listening(of: &Running) -> Result<SocketAddr> {
    let out = of.out();
    let rest = out.split("listening on ").nth(1).or_else(|| out.split("tcp:").nth(1)).context("it listens nowhere")?;
    let end = rest.find([',', '\n']).unwrap_or(rest.len());
    Ok(rest[..end].trim().parse()?)
}

/// Writes all of it and then the end.
pub(super) fn write(stream: &TcpStream, bytes: Vec<u8>) -> Result<JoinHandle<std::io::Result<()>>> {
    let mut stream = stream.try_clone()?;
    let work = move || stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    Ok(std::thread::Builder::new().name("write".into()).spawn(work)?)
}

/// Reads to the end, which must be one in order.
pub(super) fn read(stream: &TcpStream) -> Result<Vec<u8>> {
    let mut got = Vec::new();
    let mut stream = stream;
    stream.read_to_end(&mut got).with_context(|| format!("after {} bytes", got.len()))?;
    Ok(got)
}

/// Bytes there and others back, at the same time, each to its end.
pub(super) fn exchange(client: &TcpStream, server: &TcpStream, len: usize) -> Result<()> {
    let (question, answer) = (pattern(len), pattern(len / 2 + 1));
    let writers = [write(client, question.clone())?, write(server, answer.clone())?];
    let reader = server.try_clone()?;
    let reading = std::thread::Builder::new().name("read".into()).spawn(move || read(&reader))?;
    let back = read(client)?;
    let there = reading.join().expect("no panic")?;
    for writer in writers {
        writer.join().expect("no panic")?;
    }
    ensure!(there == question, "{} bytes of {} came, or others", there.len(), question.len());
    ensure!(back == answer, "{} bytes of {} came back, or others", back.len(), answer.len());
    Ok(())
}

/// The connection ends with a reset, whatever came before.
pub(super) fn expect_reset(mut stream: &TcpStream, who: &str) -> Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => bail!("{who} read an end that looks whole"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => bail!("{who} read {error}"),
        }
    }
}

/// Who connects there and says something is reset: before it knows that it is connected, when it speaks, or after. It is told
/// once only.
pub(super) fn expect_refusal(at: &Host, to: SocketAddr, says: &[u8], who: &str) -> Result<()> {
    match connect(at, to) {
        Ok(mut stream) => match stream.write_all(says) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            _ => expect_reset(&stream, who),
        },
        Err(error) => {
            let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            ensure!(kind == Some(ErrorKind::ConnectionReset), "{who}: {error:#}");
            Ok(())
        }
    }
}

/// Closes it with a reset.
pub(super) fn reset(stream: TcpStream) -> Result<()> {
    // A socket with a linger time of zero resets when it is closed.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

/// What `tcpstripe status` says at a host: of all programs there.
pub(super) fn status(at: &Host) -> Result<Vec<Value>> {
    let output = at.run("tcpstripe", &["status", "--json"])?;
    ensure!(output.code() == 0, "{}", output.err);
    Ok(serde_json::from_str(&output.out)?)
}

/// The only group at a host, once there is one.
pub(super) fn group(at: &Host) -> Result<Value> {
    let groups = |all: Vec<Value>| {
        all.iter().flat_map(|one| one["groups"].as_array().cloned().unwrap_or_default()).collect::<Vec<_>>()
    };
    let all = groups(status(at)?);
    all.into_iter().next().with_context(|| format!("no group at {}", at.name()))
}

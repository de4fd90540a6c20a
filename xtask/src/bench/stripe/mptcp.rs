//! Multipath TCP of the kernel, with as many subflows: each from an address of its own, over the same link.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::Host;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::bench::STEP;

/// Whether there is any here; says so if there is none.
pub(super) fn there_is(at: &Host) -> Result<bool> {
    let made = at.inside(|| Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)))?;
    let there = made.is_ok() && at.run("ip", &["mptcp", "limits", "show"])?.code() == 0;
    if !there {
        println!("this kernel, or its `ip`, has no MPTCP: its column is left out");
    }
    Ok(there)
}

/// Has connections from `a` use so many subflows.
pub(super) fn subflows(a: &Host, b: &Host, count: u16) -> Result<()> {
    for (host, words) in [
        (a, "mptcp endpoint flush".to_owned()),
        (a, format!("mptcp limits set subflows {} add_addr_accepted 0", count - 1)),
        (b, format!("mptcp limits set subflows {} add_addr_accepted 0", count - 1)),
    ] {
        ip(host, &words)?;
    }
    for number in 1..count {
        let address = Ipv4Addr::new(10, 0, 0, 230 + u8::try_from(number)?);
        ip(a, &format!("address replace {address}/24 dev eth0"))?;
        ip(a, &format!("mptcp endpoint add {address} dev eth0 subflow"))?;
    }
    Ok(())
}

/// Mbit/s that one connection brings.
#[expect(clippy::disallowed_methods, reason = "it measures")]
pub(super) fn goodput(a: &Host, b: &Host, control: &str, seconds: f64) -> Result<f64> {
    let at = SocketAddr::new(b.address(), 0);
    let listener = b.inside(|| {
        let socket = socket(control)?;
        socket.bind(&at.into())?;
        socket.listen(1)?;
        Ok::<_, std::io::Error>(socket)
    })??;
    let to = listener.local_addr()?;
    let client: TcpStream = a.inside(|| {
        let socket = socket(control)?;
        socket.connect(&to)?;
        Ok::<_, std::io::Error>(socket.into())
    })??;
    let (server, _) = listener.accept()?;
    let mut server: TcpStream = server.into();
    server.set_read_timeout(Some(STEP))?;
    std::thread::scope(|scope| {
        let writer = client.try_clone()?;
        let sending = scope.spawn(move || send(writer));
        let (begin, mut bytes, mut buffer) = (Instant::now(), 0_usize, vec![0; 256 << 10]);
        while begin.elapsed() < Duration::from_secs_f64(seconds) {
            bytes += server.read(&mut buffer).context("reading from MPTCP")?;
        }
        let rate = bytes as f64 * 8.0 / 1e6 / begin.elapsed().as_secs_f64();
        // Now the sender fails, which ends it.
        SockRef::from(&client).shutdown(std::net::Shutdown::Both)?;
        drop(server);
        sending.join().expect("no panic")?;
        Ok(rate)
    })
}

/// With the control of its subflows, and no fall-back to anything else.
fn socket(control: &str) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))?;
    SockRef::from(&socket).set_tcp_congestion(control.as_bytes())?;
    Ok(socket)
}

fn send(mut to: TcpStream) -> Result<()> {
    let block = vec![7; 128 << 10];
    loop {
        match to.write_all(&block) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => return Ok(()),
            Err(error) => return Err(error).context("writing to MPTCP"),
        }
    }
}

fn ip(host: &Host, words: &str) -> Result<()> {
    let output = host.run("ip", &words.split(' ').collect::<Vec<_>>())?;
    ensure!(output.code() == 0, "ip {words} ended with {}: {}", output.code(), output.err);
    Ok(())
}

/// Subflows that came about, says the kernel of a host.
pub(super) fn joined(at: &Host) -> Result<u64> {
    let text = at.inside(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))??;
    Ok(count(&text, "MPJoinAckRx").unwrap_or_default())
}

/// A counter of two lines: names, then values.
fn count(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("MPTcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|word| word == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read() {
        let text = "TcpExt: A\nTcpExt: 1\nMPTcpExt: MPCapableSYNRX MPJoinAckRx\nMPTcpExt: 3 7\n";
        assert_eq!(count(text, "MPJoinAckRx"), Some(7));
        assert_eq!(count(text, "Other"), None);
    }
}

//! The PROXY protocol (HAProxy's, versions 1 and 2): who a client is, said before its first byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_protocol_rs::{Command, HeaderBuilder, V2_SIGNATURE};
use rustix::net::RecvFlags;
use tokio::io::AsyncReadExt as _;

use super::socket::Socket;
use crate::said::rule::ProxyVersion;

/// Longest header of version 1, bytes.
const LONGEST_V1: usize = 107;
/// Longest header of version 2 that is taken, bytes: addresses, and certificates among what follows them.
const LONGEST_V2: usize = 16 * 1024;
/// What tells the versions apart; shorter than any header.
const FIRST: usize = V2_SIGNATURE.len();

/// Reads a header, and not a byte more: the client, and what it connected to. `None`: the header says that it is about nobody,
/// as those of health checks do. The caller sets a deadline.
pub(crate) async fn read(socket: &mut Socket) -> Result<Option<(SocketAddr, SocketAddr)>, String> {
    let mut header = vec![0; FIRST];
    fill(socket, &mut header, 0).await?;
    if header[..] == V2_SIGNATURE[..] {
        header.resize(FIRST + 4, 0);
        fill(socket, &mut header, FIRST).await?;
        let rest = usize::from(u16::from_be_bytes([header[FIRST + 2], header[FIRST + 3]]));
        if rest > LONGEST_V2 {
            return Err(format!("it is {rest} bytes long"));
        }
        header.resize(FIRST + 4 + rest, 0);
        fill(socket, &mut header, FIRST + 4).await?;
    } else if header.starts_with(b"PROXY ") {
        line(socket, &mut header).await?;
    } else {
        return Err("there is none; is proxy-in right for this rule's clients?".to_owned());
    }
    let (info, used) = proxy_protocol_rs::parse(&header).map_err(|error| error.to_string())?;
    if used != header.len() {
        return Err("it is shorter than it says".to_owned());
    }
    let (source, destination) = (info.source_inet(), info.destination_inet());
    Ok(source.zip(destination).filter(|_| info.command == Command::Proxy))
}

async fn fill(socket: &mut Socket, header: &mut [u8], from: usize) -> Result<(), String> {
    socket.read_exact(&mut header[from..]).await.map(drop).map_err(|error| error.to_string())
}

/// The rest of a line, looked at before it is taken.
async fn line(socket: &mut Socket, header: &mut Vec<u8>) -> Result<(), String> {
    while !header.ends_with(b"\n") {
        if header.len() >= LONGEST_V1 {
            return Err("its line does not end".to_owned());
        }
        let mut seen = [0; LONGEST_V1];
        let room = LONGEST_V1 - header.len();
        let there = rustix::net::recv(socket.fd(), &mut seen[..room], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        let there = there.map_or(0, |(there, _)| there);
        let end = seen[..there].iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let from = header.len();
        // Nothing there: one byte is waited for.
        header.resize(from + end.unwrap_or(there).max(1), 0);
        fill(socket, header, from).await?;
    }
    Ok(())
}

/// A header for a target.
pub(crate) fn header(version: ProxyVersion, client: Option<SocketAddr>, listener: Option<SocketAddr>) -> Vec<u8> {
    let Some(client) = client.map(canonical) else {
        return match version {
            ProxyVersion::V1 => HeaderBuilder::v1_unknown().build(),
            ProxyVersion::V2 => HeaderBuilder::v2_local().build(),
        };
    };
    let unknown = match client {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let listener = listener.map_or(unknown, canonical);
    let (client, listener) = match client.is_ipv4() == listener.is_ipv4() {
        true => (client, listener),
        // Both are of one family in a header.
        false => (mapped(client), mapped(listener)),
    };
    match version {
        ProxyVersion::V1 => HeaderBuilder::v1_proxy(client, listener).build(),
        ProxyVersion::V2 => HeaderBuilder::v2_proxy(client, listener).build(),
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a client's writing goes on beside the reading")]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    type Read = Result<Option<(SocketAddr, SocketAddr)>, String>;

    /// What is read of `bytes` that come in pieces of this size, and what is left behind it.
    fn read_of(bytes: &[u8], piece: usize) -> (Read, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_nonblocking(true).unwrap();
            let mut socket = Socket::new(ours.into(), false).unwrap();
            let mut writer = tokio::net::UnixStream::from_std(theirs).unwrap();
            let all = bytes.to_vec();
            let writing = tokio::spawn(async move {
                for piece in all.chunks(piece) {
                    writer.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let read = tokio::time::timeout(Duration::from_secs(10), read(&mut socket)).await.unwrap();
            let _ = writing.await;
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.unwrap();
            (read, rest)
        })
    }

    #[test]
    fn headers_are_read_to_their_last_byte_and_no_further() {
        let (four, six) = ("192.0.2.1:4000", "[2001:db8::1]:4000");
        let (four, six): (SocketAddr, SocketAddr) = (four.parse().unwrap(), six.parse().unwrap());
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for (client, listener) in [(four, four), (six, six), (four, six), (six, four)] {
                let mut bytes = header(version, Some(client), Some(listener));
                bytes.extend_from_slice(b"PROXY of the client's own\r\n");
                for piece in [1, 7, 1000] {
                    let (read, rest) = read_of(&bytes, piece);
                    let (seen_client, seen_listener) = read.unwrap().unwrap();
                    assert_eq!((canonical(seen_client), canonical(seen_listener)), (client, listener), "{version:?}");
                    assert_eq!(rest, b"PROXY of the client's own\r\n", "{version:?} {piece}");
                }
            }
            let (read, rest) = read_of(&[&header(version, None, None)[..], b"x"].concat(), 3);
            assert_eq!((read, &rest[..]), (Ok(None), &b"x"[..]));
        }
    }

    #[test]
    fn what_is_no_header_is_told() {
        let long = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        let rows: [(&[u8], &str); 6] = [
            (b"GET / HTTP/1.1\r\n\r\n", "there is none"),
            (b"PROXY TCP4 192.0.2.1\r\n", "format"),
            (b"PROXY TCP9 a b 1 2\r\n", "TCP9"),
            (&long, "does not end"),
            (b"PROX", "early eof"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "65535 bytes"),
        ];
        for (bytes, want) in rows {
            let said = read_of(bytes, 5).0.unwrap_err();
            assert!(
                said.to_lowercase().contains(&want.to_lowercase()),
                "{said} for {:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}

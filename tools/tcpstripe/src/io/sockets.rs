//! TCP sockets as tracks, clients and targets want them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::machine::Path;
use crate::said::end::{HostPort, Via};

/// Connections that wait for their acceptance.
const BACKLOG: u32 = 1024;
/// A peer that is gone without a word is noticed after about a minute and a half.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// Addresses of a host and port, as the system knows them.
async fn resolve(at: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((at.host.as_str(), at.port)).await?.collect();
    match found.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(found),
    }
}

/// A connection to a target.
pub(super) async fn dial(at: &HostPort, within: Duration) -> io::Result<TcpStream> {
    dial_as(&Via::Tcp { at: at.clone(), local: None, device: None }, None, within).await
}

/// A connection for a track: from the local address and interface that its end names, with a congestion control of its own.
pub(super) async fn dial_as(via: &Via, congestion: Option<&str>, within: Duration) -> io::Result<TcpStream> {
    let Via::Tcp { at, local, device } = via else { return Err(io::Error::from(io::ErrorKind::Unsupported)) };
    let connecting = async {
        let mut last = None;
        for address in resolve(at).await? {
            let socket = new_socket(address, congestion)?;
            if let Some(device) = device {
                socket.bind_device(Some(device.as_bytes()))?;
            }
            if let Some(local) = local {
                socket.bind(&SocketAddr::new(*local, 0).into())?;
            }
            match TcpSocket::from_std_stream(socket.into()).connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
    };
    match tokio::time::timeout(within, connecting).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", within.as_secs_f64()))),
    }
}

fn new_socket(address: SocketAddr, congestion: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if let Some(name) = congestion {
        set_congestion(&SockRef::from(&socket), name)?;
    }
    Ok(socket)
}

fn set_congestion(socket: &SockRef<'_>, name: &str) -> io::Result<()> {
    socket.set_tcp_congestion(name.as_bytes()).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("this host has no TCP congestion control {name:?} (see /proc/sys/net/ipv4/tcp_available_congestion_control): {error}"),
        )
    })
}

/// Listens; connections inherit the congestion control.
pub(super) async fn listen(
    at: &HostPort,
    device: Option<&str>,
    congestion: Option<&str>,
) -> Result<TcpListener, String> {
    let listening = async {
        let mut last = None;
        for address in resolve(at).await? {
            let socket = new_socket(address, congestion)?;
            socket.set_reuse_address(true)?;
            if let Some(device) = device {
                socket.bind_device(Some(device.as_bytes()))?;
            }
            let socket = TcpSocket::from_std_stream(socket.into());
            match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
    };
    listening.await.map_err(|error: io::Error| format!("cannot listen on {at}: {error}"))
}

/// What every connection has: small writes leave at once, a vanished peer is noticed, and a program that dies resets it, so that
/// nothing cut short looks complete.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_zero_linger()?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// And what tracks have besides: little waits in the kernel unsent.
pub(super) fn prepare_track(stream: &TcpStream) -> io::Result<()> {
    prepare(stream)?;
    set_unsent(stream, Path::default().unsent())
}

/// A track that has so many bytes in the kernel unsent takes no chunk; another one may.
pub(super) fn set_unsent(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    SockRef::from(stream).set_tcp_notsent_lowat(bytes)
}

/// From now on closing it ends it in order.
pub(super) fn release(stream: &TcpStream) {
    // An error: it is gone already.
    let _ = SockRef::from(stream).set_linger(None);
}

/// What the kernel knows of a connection's path.
#[expect(unsafe_code, reason = "TCP_INFO has no safe face")]
pub(super) fn path(stream: &TcpStream) -> Path {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes of a live value; what it leaves out stays zero, a valid value of each field.
    let done = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
    };
    if done != 0 {
        return Path::default();
    }
    // SAFETY: it was zeroed, and every bit pattern is a valid one.
    let info = unsafe { info.assume_init() };
    Path {
        rtt: Some(Duration::from_micros(info.tcpi_rtt.into())),
        window: Some(u64::from(info.tcpi_snd_cwnd) * u64::from(info.tcpi_snd_mss)),
        lost: info.tcpi_total_retrans.into(),
    }
}

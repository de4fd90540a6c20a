//! Many sockets on one port: what decides who gets a datagram, against the kernel itself.
#![expect(clippy::disallowed_methods, reason = "the far ends of these tests are plain sockets")]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use proto::{Name, WireId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::shared::drain;
use super::socket::{self, Listener};
use super::tests::{at, far, program};
use crate::machine::Filter;

fn filter() -> Filter {
    Filter::NoRequests(Name::new("echo").unwrap(), WireId(5), WireId(7))
}

/// A listener that shares a port of the kernel's choice.
fn listener(ip: &str) -> (Listener, SocketAddr) {
    let free = far(ip).local_addr().unwrap();
    (socket::listen(free, true).unwrap(), free)
}

fn joined(listen: SocketAddr, peer: &UdpSocket) -> OwnedFd {
    let (fd, peer) = (socket::reserve(listen).unwrap(), peer.local_addr().unwrap());
    socket::bind_beside(fd.as_fd(), listen, peer).unwrap();
    socket::join(fd.as_fd(), peer, &filter()).unwrap();
    fd
}

fn queue(fd: &OwnedFd) -> Vec<(Vec<u8>, SocketAddr)> {
    drain(fd.as_fd(), &mut [0; 2048])
}

fn strangers(ip: &str) -> Vec<UdpSocket> {
    (0..100).map(|_| UdpSocket::bind(at(ip)).unwrap()).collect()
}

#[test]
fn what_comes_between_bind_and_connect_is_found() {
    for ip in ["127.0.0.1", "::1"] {
        let (listener, listen) = listener(ip);
        let (others, peer) = (far(ip), far(ip));
        // With a connected socket in the group the newest unconnected one gets all, without one a part.
        for flows in 0..2 {
            let _flows: Vec<OwnedFd> = (0..flows).map(|_| joined(listen, &others)).collect();
            let (fd, to) = (socket::reserve(listen).unwrap(), peer.local_addr().unwrap());
            socket::bind_beside(fd.as_fd(), listen, to).unwrap();
            let strangers = strangers(ip);
            for stranger in &strangers {
                stranger.send_to(b"request", listen).unwrap();
            }
            socket::join(fd.as_fd(), to, &filter()).unwrap();
            let (found, heard) = (queue(&fd), queue(&listener.socket));
            assert!(!found.is_empty(), "{ip}: sockets half made take requests");
            let mut from: Vec<_> = found.iter().chain(&heard).map(|(_, from)| *from).collect();
            let mut want: Vec<_> = strangers.iter().map(|stranger| stranger.local_addr().unwrap()).collect();
            from.sort();
            want.sort();
            assert_eq!(from, want, "{ip}: each once");
            // From now on only its peer's.
            strangers[0].send_to(b"request", listen).unwrap();
            peer.send_to(b"sdu", listen).unwrap();
            let (program, mut buffer) = (program(&fd), [0; 8]);
            assert_eq!(program.recv(&mut buffer).map(|n| buffer[..n].to_vec()).unwrap(), b"sdu");
            assert_eq!(queue(&listener.socket).len(), 1, "{ip}");
        }
    }
}

#[test]
fn a_new_listener_hears_all_among_connected_sockets() {
    for ip in ["127.0.0.1", "::1"] {
        let (old, listen) = listener(ip);
        let peers: Vec<UdpSocket> = (0..30).map(|_| far(ip)).collect();
        let mut flows: Vec<OwnedFd> = peers.iter().map(|peer| joined(listen, peer)).collect();
        drop(old);
        let new = socket::listen(listen, true).unwrap();
        let strangers = strangers(ip);
        for (round, peer) in peers.iter().take(3).enumerate() {
            for stranger in &strangers {
                stranger.send_to(b"request", listen).unwrap();
            }
            assert_eq!(queue(&new.socket).len(), strangers.len(), "{ip} {round}");
            // The first goes, one is made: places in the group change.
            flows.remove(0);
            flows.push(joined(listen, peer));
        }
        assert!(flows.iter().all(|flow| queue(flow).is_empty()), "{ip}");
    }
}

#[test]
fn what_the_filter_drops_is_counted() {
    let (_listener, listen) = listener("127.0.0.1");
    let peer = far("127.0.0.1");
    let fd = joined(listen, &peer);
    assert_eq!(super::sockopt::overflown(fd.as_fd()).unwrap(), 0);
    let request = |client| {
        let extension = proto::shim::Extension {
            host: proto::HostId(1),
            boot: proto::BootId(1),
            client: WireId(client),
            source: String::new(),
            qos: proto::Qos::raw(),
            deadline_ms: 0,
            listen_port: 1,
            direct: false,
            data: vec![],
            cookie: vec![],
        };
        proto::shim::Request::Extended(Name::new("echo").unwrap(), extension).encode()
    };
    for payload in [&request(5)[..], b"", &request(5), b"sdu", &request(6)] {
        peer.send_to(payload, listen).unwrap();
    }
    assert_eq!(super::sockopt::overflown(fd.as_fd()).unwrap(), 3);
    // Another flow's request is an SDU here: it may be carried for somebody.
    assert_eq!(queue(&fd).into_iter().map(|(bytes, _)| bytes).collect::<Vec<_>>(), [b"sdu".to_vec(), request(6)]);
}

#[test]
fn a_detached_socket_keeps_nothing_from_the_listener() {
    let (listener, listen) = listener("127.0.0.1");
    let peer = far("127.0.0.1");
    for revoke in [false, true] {
        let fd = joined(listen, &peer);
        peer.send_to(b"before", listen).unwrap();
        if revoke {
            socket::revoke(fd.as_fd());
        }
        socket::move_to(fd.as_fd(), SocketAddr::new(listen.ip(), 9)).unwrap();
        peer.send_to(b"after", listen).unwrap();
        assert_eq!(queue(&listener.socket), [(b"after".to_vec(), peer.local_addr().unwrap())], "{revoke}");
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        assert!(fds[0].revents().contains(PollFlags::IN), "what came before can be read");
    }
}

#[test]
fn one_listener_at_a_time() {
    let (first, listen) = listener("127.0.0.1");
    let failure = socket::listen(listen, true).unwrap_err();
    assert!(failure.message.contains("in use by another ipcpd-udp"), "{failure}");
    drop(first);
    socket::listen(listen, true).unwrap();
}

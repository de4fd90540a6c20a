//! Two sockets on one port, and a flow that follows its client: each against the kernel itself.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use proto::WireId;
use proto::shim::ControlKind;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::socket::{self, Received};
use super::tests::{control, far, open, program, through};
use crate::machine::{Filter, OpenError};

/// What waits at a socket that is read by this process, in order. Loopback delivers within the send.
fn queue(fd: &OwnedFd) -> Vec<(Vec<u8>, SocketAddr)> {
    let (mut got, mut buffer) = (Vec::new(), [0; 2048]);
    while let Ok(Received::Datagram(length, from)) = socket::receive(fd.as_fd(), &mut buffer) {
        got.push((buffer[..length].to_vec(), from));
    }
    got
}

/// A flow's socket connected to a peer, and what the program and a stranger hold.
struct Flow {
    fd: OwnedFd,
    local: SocketAddr,
    peer: UdpSocket,
    program: UdpSocket,
}

fn flow(ip: &str) -> Flow {
    let peer = far(ip);
    // By number, as the machine does: a port that the kernel chose is given back when the connection is dissolved.
    let free = far(ip).local_addr().unwrap();
    let (fd, local) = socket::open(free, false).unwrap();
    let filter = Filter::NoControl(WireId(7));
    socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &filter, &mut [0; 2048]).unwrap();
    let program = program(&fd);
    Flow { fd, local, peer, program }
}

fn next(program: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let n = program.recv(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

#[test]
fn a_catcher_takes_what_others_send_and_the_flow_keeps_its_peers() {
    for ip in ["127.0.0.1", "::1"] {
        let flow = flow(ip);
        let (outside, catcher) = (far(ip), socket::catcher(flow.fd.as_fd()).unwrap());
        for n in 0..200u8 {
            flow.peer.send_to(&[n, 1], flow.local).unwrap();
            outside.send_to(&[n, 2], flow.local).unwrap();
        }
        let caught = queue(&catcher);
        assert!(caught.iter().all(|(bytes, from)| bytes[1] == 2 && *from == outside.local_addr().unwrap()), "{ip}");
        assert!(caught.len() >= 10, "its queue holds some: {}", caught.len());
        for n in 0..200u8 {
            assert_eq!(next(&flow.program), [n, 1], "{ip}");
        }
        // Closed, the stranger meets a closed door again.
        drop(catcher);
        outside.connect(flow.local).unwrap();
        outside.send(b"x").unwrap();
        assert_eq!(outside.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{ip}");
    }
}

#[test]
fn a_move_is_a_move_for_all_who_hold_the_socket() {
    for ip in ["127.0.0.1", "::1"] {
        let flow = flow(ip);
        let (outside, catcher) = (far(ip), socket::catcher(flow.fd.as_fd()).unwrap());
        let open = control(ControlKind::Open, 7);
        outside.send_to(&open, flow.local).unwrap();
        let [(bytes, from)] = &queue(&catcher)[..] else { panic!() };
        assert_eq!((bytes, *from), (&open, outside.local_addr().unwrap()));
        socket::move_to(flow.fd.as_fd(), *from).unwrap();
        drop(catcher);
        // The program's next plain send goes to the new address, from the same port.
        flow.program.send(b"answer").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(outside.recv_from(&mut buffer).unwrap(), (6, flow.local), "{ip}");
        assert_eq!(flow.program.peer_addr().unwrap(), *from);
        // The old one is refused.
        flow.peer.send_to(b"old", flow.local).unwrap();
        outside.send_to(b"new", flow.local).unwrap();
        assert_eq!(next(&flow.program), b"new", "{ip}");
    }
}

#[test]
fn what_a_middlebox_said_before_the_move_is_forgotten() {
    // A NAT that has no mapping for sp yet says so to the acceptance; the program would read it as its flow's end.
    let flow = flow("127.0.0.1");
    let outside = far("127.0.0.1");
    drop(flow.peer);
    assert_eq!(socket::send(flow.fd.as_fd(), None, b"acceptance"), Ok(()));
    let mut fds = [PollFd::new(&flow.fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).unwrap();
    assert!(fds[0].revents().contains(PollFlags::ERR), "the error waits");
    socket::move_to(flow.fd.as_fd(), outside.local_addr().unwrap()).unwrap();
    outside.send_to(b"sdu", flow.local).unwrap();
    assert_eq!(next(&flow.program), b"sdu");
}

#[test]
fn nobody_else_joins_the_port() {
    let flow = flow("127.0.0.1");
    let taken = || socket::open(flow.local, false).unwrap_err();
    assert_eq!(taken(), OpenError::PortInUse);
    let _catcher = socket::catcher(flow.fd.as_fd()).unwrap();
    assert_eq!(taken(), OpenError::PortInUse);
    // Nor by the option that two sockets of one user share a port under.
    let joined = {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&flow.local.into())
    };
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn open_and_opened_never_reach_a_program() {
    let id = 0x0102_0304_0506_0708;
    let (open, opened, others) =
        (control(ControlKind::Open, id), control(ControlKind::Opened, id), control(ControlKind::Open, 9));
    // A later version's may be longer.
    let longer = [&opened[..], b"more"].concat();
    let all: [&[u8]; 9] = [b"", &open, b"sdu", &opened, &longer, &others, &open[..39], &[0; 40], b"end"];
    let name = proto::Name::new("echo").unwrap();
    for ip in ["127.0.0.1", "::1"] {
        for filter in [Filter::NoControl(WireId(id)), Filter::NoAnswers(name.clone(), WireId(id))] {
            let want: [&[u8]; 5] = [b"sdu", &others, &open[..39], &[0; 40], b"end"];
            assert_eq!(through(ip, &filter, &all), want, "{ip} {filter:?}");
            let ours: Vec<&[u8]> =
                all.iter().copied().filter(|payload| !super::filter::drops(&filter, payload)).collect();
            assert_eq!(ours, want, "the kernel and we read it the same");
        }
    }
}

#[test]
fn opened_that_came_twice_before_the_connect_is_no_sdu() {
    let peer = far("127.0.0.1");
    let (fd, local) = open("127.0.0.1");
    for payload in [&control(ControlKind::Opened, 7)[..], b"first"] {
        peer.send_to(payload, local).unwrap();
    }
    let filter = Filter::NoAnswers(proto::Name::new("echo").unwrap(), WireId(7));
    let (_, dropped) = socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &filter, &mut [0; 2048]).unwrap();
    assert_eq!(dropped, 1);
    assert_eq!(next(&program(&fd)), b"first");
}

/// What a program that accepted a message or stream flow does behind its handshake.
#[test]
fn a_dissolved_socket_hears_everybody_once_the_catcher_is_gone_and_is_revoked_as_others_are() {
    for ip in ["127.0.0.1", "::1"] {
        for retired in [true, false] {
            let flow = flow(ip);
            let (outside, catcher) = (far(ip), socket::catcher(flow.fd.as_fd()).unwrap());
            rustix::net::connect_unspec(&flow.program).unwrap();
            let (Ok(local), Ok(peer)) = (flow.program.local_addr(), flow.peer.local_addr()) else { panic!() };
            assert_eq!(local, flow.local, "it keeps its port");
            drop(catcher);
            for (n, sender) in [&flow.peer, &outside].into_iter().enumerate() {
                sender.send_to(&[n as u8], flow.local).unwrap();
                let (length, from) = flow.program.recv_from(&mut [0; 8]).unwrap();
                assert_eq!((length, from), (1, sender.local_addr().unwrap()), "{ip}");
            }
            flow.program.send_to(b"back", peer).unwrap();
            assert_eq!(flow.peer.recv(&mut [0; 8]).unwrap(), 4);
            if retired {
                socket::retire(flow.fd.as_fd());
            } else {
                socket::revoke(flow.fd.as_fd());
            }
            for sender in [&flow.peer, &outside] {
                let _ = sender.send_to(b"late", flow.local);
            }
            assert_eq!(flow.program.recv(&mut [0; 8]).unwrap(), 0, "{ip}, retired: {retired}");
            assert_eq!(flow.program.send_to(b"x", peer).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    }
}

//! The traps of UDP sockets that are handed over, each against the kernel itself.
#![expect(clippy::disallowed_methods, reason = "the far ends of these tests are plain sockets")]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

use proto::shim::{Control, ControlKind};
use proto::{BootId, HostId, Name, WireId};
use socket2::SockRef;

use super::socket::{self, Received};
use super::sockopt;
use crate::machine::{Filter, OpenError, Unreachable};

const SOON: Duration = Duration::from_secs(10);

pub(super) fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 0)
}

pub(super) fn far(ip: &str) -> UdpSocket {
    let far = UdpSocket::bind(at(ip)).unwrap();
    far.set_read_timeout(Some(SOON)).unwrap();
    far
}

pub(super) fn open(ip: &str) -> (OwnedFd, SocketAddr) {
    socket::open(at(ip), true).unwrap()
}

/// The program's end: the same file description.
pub(super) fn program(fd: &OwnedFd) -> UdpSocket {
    let program = UdpSocket::from(fd.try_clone().unwrap());
    program.set_read_timeout(Some(SOON)).unwrap();
    program
}

fn name() -> Name {
    Name::new("echo").unwrap()
}

pub(super) fn control(kind: ControlKind, receiver: u64) -> Vec<u8> {
    let (host, boot) = (HostId(1), BootId(2));
    Control { kind, host, boot, sender: WireId(3), receiver: WireId(receiver) }.encode().to_vec()
}

/// Every payload that gets through a filter, of those sent. The last one must get through: it says that all arrived.
pub(super) fn through(ip: &str, filter: &Filter, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
    let (far, (fd, local)) = (far(ip), open(ip));
    socket::connect(fd.as_fd(), far.local_addr().unwrap(), filter, &mut [0; 2048]).unwrap();
    if filter.left_to_program().is_some() {
        super::filter::attach(fd.as_fd(), filter).unwrap();
    }
    for payload in payloads {
        far.send_to(payload, local).unwrap();
    }
    let (program, mut got, mut buffer) = (program(&fd), Vec::new(), [0; 2048]);
    while got.last().map(Vec::as_slice) != payloads.last().copied() {
        let n = program.recv(&mut buffer).unwrap();
        got.push(buffer[..n].to_vec());
    }
    got
}

#[test]
fn filter_keeps_keep_alives_and_late_answers_from_programs() {
    let id = WireId(0x0102_0304_0506_0708);
    let head = |magic: &[u8], id: u64| {
        let mut answer = [b"echo\0", magic].concat();
        answer.resize(5 + 24, 1);
        answer.extend(id.to_be_bytes());
        answer
    };
    let (late, longer) = (head(b"Flow", id.0), [head(b"Flow", id.0), vec![0; 900]].concat());
    let (others, no_magic) = (head(b"Flow", 7), head(b"Flop", id.0));
    let sdus: [&[u8]; 9] = [b"a", b"echo", b"echo\0", b"ech", b"echoo", &late[..12], &others, &no_magic, b"end"];
    for ip in ["127.0.0.1", "::1"] {
        let all: Vec<&[u8]> = [&b""[..], &late, &longer].into_iter().chain(sdus).collect();
        for filter in [Filter::NoAnswers(name(), id), Filter::NoEchoes(name(), id), Filter::Flow] {
            let kept: Vec<&[u8]> =
                all.iter().copied().filter(|payload| !super::filter::drops(&filter, payload)).collect();
            assert_eq!(through(ip, &filter, &all), kept, "the kernel and we read {filter:?} the same");
        }
        assert_eq!(through(ip, &Filter::NoAnswers(name(), id), &all), sdus, "{ip}");
        let echoes: [&[u8]; 2] = [b"echo", b"echo\0"];
        let rest: Vec<&[u8]> = sdus.into_iter().filter(|sdu| !echoes.contains(sdu)).collect();
        assert_eq!(through(ip, &Filter::NoEchoes(name(), id), &all), rest, "{ip}");
        assert_eq!(through(ip, &Filter::Flow, &all), all[1..], "{ip}");
    }
}

#[test]
fn filter_of_the_longest_name_fits_the_kernel() {
    let long = Name::new(&"n".repeat(255)).unwrap();
    let with_nul = [long.as_str().as_bytes(), &[0]].concat();
    let almost = &long.as_str().as_bytes()[..254];
    let all: [&[u8]; 4] = [long.as_str().as_bytes(), &with_nul, almost, b"end"];
    let got = through("127.0.0.1", &Filter::NoEchoes(long.clone(), WireId(1)), &all);
    assert_eq!(got, all[2..]);
}

#[test]
fn window_between_bind_and_connect_is_shut_for_strangers() {
    let mut buffer = [0; 2048];
    for (ip, stranger) in [("127.0.0.1", "127.0.0.2"), ("::1", "::1")] {
        let (peer, neighbour) = (far(ip), far(stranger));
        let (fd, local) = open(ip);
        neighbour.send_to(b"stranger", local).unwrap();
        peer.send_to(b"first", local).unwrap();
        let (_, dropped) = socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::Flow, &mut buffer).unwrap();
        assert_eq!(dropped, 1, "{ip}");
        peer.send_to(b"second", local).unwrap();
        let program = program(&fd);
        for want in [&b"first"[..], b"second"] {
            let n = program.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], want, "{ip}");
        }
        neighbour.send_to(b"stranger", local).unwrap();
        assert!(socket::all_read(fd.as_fd()));
    }
}

#[test]
fn first_sdu_racing_the_connect_is_kept() {
    let peer = far("127.0.0.1");
    let (fd, local) = open("127.0.0.1");
    let sdus: Vec<Vec<u8>> = (1..20).map(|n| vec![n; usize::from(n) * 100]).collect();
    for sdu in &sdus {
        peer.send_to(sdu, local).unwrap();
    }
    let (_, dropped) =
        socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::Flow, &mut vec![0; socket::LONGEST]).unwrap();
    assert_eq!(dropped, 0);
    let (program, mut buffer) = (program(&fd), [0; 2048]);
    for sdu in &sdus {
        let n = program.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], sdu, "in order, from its beginning");
    }
    // Looking at the queue has left no trace: peeking begins at its head again.
    peer.send_to(b"abc", local).unwrap();
    for _ in 0..2 {
        assert_eq!(program.peek(&mut buffer).unwrap(), 3);
    }
}

#[test]
fn a_stranger_behind_an_sdu_is_dropped_with_what_was_before_it() {
    let (peer, neighbour) = (far("127.0.0.1"), far("127.0.0.1"));
    let (fd, local) = open("127.0.0.1");
    peer.send_to(b"lost", local).unwrap();
    neighbour.send_to(b"stranger", local).unwrap();
    peer.send_to(b"kept", local).unwrap();
    let (_, dropped) = socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::Flow, &mut [0; 2048]).unwrap();
    assert_eq!(dropped, 2);
    let mut buffer = [0; 64];
    let n = program(&fd).recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"kept");
}

#[test]
fn an_echo_that_came_twice_is_no_sdu() {
    // The C original's client hands the second one to its program.
    let id = WireId(7);
    let mut accepted = b"echo\0Flow".to_vec();
    accepted.resize(5 + 24, 1);
    accepted.extend(id.0.to_be_bytes());
    for (filter, twice) in [(Filter::NoEchoes(name(), id), &b"echo"[..]), (Filter::NoAnswers(name(), id), &accepted)] {
        let peer = far("127.0.0.1");
        let (fd, local) = open("127.0.0.1");
        for payload in [twice, b"first"] {
            peer.send_to(payload, local).unwrap();
        }
        let (_, dropped) = socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &filter, &mut [0; 2048]).unwrap();
        assert_eq!(dropped, 1);
        if filter.left_to_program().is_some() {
            super::filter::attach(fd.as_fd(), &filter).unwrap();
        }
        for payload in [twice, b"second"] {
            peer.send_to(payload, local).unwrap();
        }
        let (program, mut buffer) = (program(&fd), [0; 2048]);
        for want in [&b"first"[..], b"second"] {
            let n = program.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], want);
        }
    }
}

#[test]
fn revocation_cannot_be_undone_and_ends_a_blocked_receive() {
    let peer = far("127.0.0.1");
    let (fd, local) = open("127.0.0.1");
    socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::Flow, &mut [0; 2048]).unwrap();
    let (blocked, (started, has_started)) = (program(&fd), mpsc::channel());
    let reader = std::thread::Builder::new()
        .spawn(move || {
            started.send(()).unwrap();
            blocked.recv(&mut [0; 64])
        })
        .unwrap();
    has_started.recv_timeout(SOON).unwrap();
    peer.send_to(b"", local).unwrap();
    socket::revoke(fd.as_fd());
    assert_eq!(reader.join().unwrap().unwrap(), 0, "end of flow");
    let program = program(&fd);
    assert_eq!(program.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    // Shutting down alone would let new datagrams queue.
    peer.send_to(b"late", local).unwrap();
    assert_eq!(program.recv(&mut [0; 64]).unwrap(), 0);
    let option = SockRef::from(&program);
    assert_eq!(option.detach_filter().unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(super::filter::attach(program.as_fd(), &Filter::Flow).is_err());
    // Again, at the end of everything: no harm.
    socket::revoke(fd.as_fd());
}

#[test]
fn what_arrived_before_a_flows_end_can_be_read() {
    let ends: [fn(std::os::fd::BorrowedFd<'_>); 2] = [socket::revoke, socket::retire];
    for end in ends {
        let peer = far("127.0.0.1");
        let (fd, local) = open("127.0.0.1");
        socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::Flow, &mut [0; 2048]).unwrap();
        peer.send_to(b"last words", local).unwrap();
        assert!(!socket::all_read(fd.as_fd()));
        end(fd.as_fd());
        let (program, mut buffer) = (program(&fd), [0; 64]);
        assert_eq!(program.recv(&mut buffer).unwrap(), 10);
        assert_eq!(program.recv(&mut buffer).unwrap(), 0);
    }
}

#[test]
fn a_retired_socket_takes_and_sends_nothing() {
    for ip in ["127.0.0.1", "::1"] {
        let peer = far(ip);
        let (fd, local) = open(ip);
        socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::Flow, &mut [0; 2048]).unwrap();
        socket::retire(fd.as_fd());
        let program = program(&fd);
        assert_eq!(program.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe, "{ip}");
        peer.connect(local).unwrap();
        peer.send(b"late").unwrap();
        assert_eq!(peer.recv(&mut [0; 64]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{ip}");
        assert_eq!(program.recv(&mut [0; 64]).unwrap(), 0, "{ip}");
        // Again, at the end of everything: no harm.
        socket::retire(fd.as_fd());
    }
}

#[test]
fn a_flows_filter_is_not_locked_before_its_end() {
    let peer = far("127.0.0.1");
    let (fd, _) = open("127.0.0.1");
    socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::NoEchoes(name(), WireId(1)), &mut [0; 64])
        .unwrap();
    super::filter::attach(fd.as_fd(), &Filter::Flow).unwrap();
}

#[test]
fn the_socket_stays_in_blocking_mode() {
    let (fd, _) = open("127.0.0.1");
    let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "its flags are the program's, too");
    assert!(matches!(socket::receive(fd.as_fd(), &mut [0; 64]), Ok(Received::Nothing)), "and still nothing here waits");
}

#[test]
fn icmp_is_heard_while_asking_and_left_to_the_program_afterwards() {
    let gone = far("127.0.0.1");
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    for ip in ["127.0.0.1", "::1"] {
        let nobody = if ip == "::1" { SocketAddr::new(ip.parse().unwrap(), nobody.port()) } else { nobody };
        let (fd, _) = open(ip);
        assert_eq!(socket::send(fd.as_fd(), Some(nobody), b"x"), Ok(()));
        let received = socket::receive(fd.as_fd(), &mut [0; 64]).unwrap();
        assert!(matches!(received, Received::Unreachable(Unreachable::Port)), "{ip}");
        // The error queue is empty again: a watched socket would be ready for ever.
        socket::clear_errors(fd.as_fd(), ip == "::1");
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&now)).unwrap(), 0, "{ip}");
        // Connected, the error is the program's; looking at the queue does not take it away.
        socket::connect(fd.as_fd(), nobody, &Filter::Flow, &mut [0; 64]).unwrap();
        let program = program(&fd);
        program.send(b"x").unwrap();
        assert!(socket::all_read(fd.as_fd()));
        assert_eq!(program.recv(&mut [0; 64]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{ip}");
        // Told once: a program that polls must not find an error queue that it does not know of.
        let mut fds = [rustix::event::PollFd::new(&program, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut fds, Some(&now)).unwrap(), 0, "{ip}");
    }
}

#[test]
fn ports_and_addresses_that_cannot_be_had_are_told_apart() {
    let (_held, taken) = open("127.0.0.1");
    assert_eq!(socket::open(taken, false).unwrap_err(), OpenError::PortInUse);
    let elsewhere = at("192.0.2.1");
    assert_eq!(socket::open(elsewhere, false).unwrap_err(), OpenError::NoSuchAddress);
    let failure = socket::listen(taken, false).unwrap_err();
    assert_eq!(failure.kind(), proto::v1::FailureKind::AddressInUse);
    assert!(failure.message.contains("is in use by another socket; stop it or choose --port"), "{failure}");
    let failure = socket::listen(elsewhere, false).unwrap_err();
    assert_eq!(failure.kind(), proto::v1::FailureKind::NoSuchAddress);
}

#[test]
fn the_longest_sdu_is_the_paths() {
    for (ip, limit) in [("127.0.0.1", 65_507), ("::1", 65_488)] {
        let peer = far(ip);
        let (fd, _) = open(ip);
        let (got, _) = socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::Flow, &mut [0; 64]).unwrap();
        assert_eq!(got, limit);
        let program = program(&fd);
        assert_eq!(program.send(&vec![1; limit as usize]).unwrap(), limit as usize);
        assert!(program.send(&vec![1; limit as usize + 1]).is_err());
    }
}

#[test]
fn the_send_queue_is_looked_at() {
    let peer = far("127.0.0.1");
    let (fd, _) = open("127.0.0.1");
    socket::connect(fd.as_fd(), peer.local_addr().unwrap(), &Filter::Flow, &mut [0; 64]).unwrap();
    assert!(socket::all_sent(fd.as_fd()));
    assert_eq!(sockopt::unsent(fd.as_fd()).unwrap(), 0);
}

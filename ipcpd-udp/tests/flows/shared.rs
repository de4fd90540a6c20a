//! All flows on the listen port (`--sp-range listen`), against the kernel itself.
#![expect(clippy::disallowed_methods, reason = "tests start tasks and threads, and wait for them")]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::shim::{Answer, Extension, Request, Verdict};
use proto::v1::{EndReason, FailureKind};
use proto::{BootId, HostId, Name, Qos, WireId};
use rustix::net::sockopt;

use crate::plain;
use crate::program::{End, Program, carries, flow, process, read};
use crate::stage::{Host, PORT, Policy, address, second, soon};

const LISTEN: [&str; 2] = ["--sp-range", "listen"];

fn anywhere() -> SocketAddr {
    SocketAddr::new(address(), PORT)
}

/// A server with all flows on one port, and a client that has a row for it.
async fn pair() -> (Host, Host) {
    crate::stage::pair_at(anywhere(), anywhere(), &LISTEN).await
}

fn echo() -> Name {
    Name::new("echo").unwrap()
}

/// A client without a shim: it says what it is told to.
struct Caller {
    socket: UdpSocket,
    extension: Extension,
    to: SocketAddr,
}

impl Caller {
    fn new(to: SocketAddr, client: u64) -> Self {
        let extension = Extension {
            host: HostId(5),
            boot: BootId(6),
            client: WireId(client),
            source: "scripted".into(),
            qos: Qos::raw(),
            deadline_ms: 5000,
            listen_port: PORT,
            direct: false,
            data: vec![],
            cookie: vec![],
        };
        Self { socket: plain(&address().to_string(), 0), extension, to }
    }

    fn ask(&self) {
        let request = Request::Extended(echo(), self.extension.clone()).encode();
        self.socket.send_to(&request, self.to).unwrap();
    }

    /// The next verdict, which comes from the port that was asked.
    async fn hears(&mut self) -> Verdict {
        let socket = self.socket.try_clone().unwrap();
        let blocking = tokio::task::spawn_blocking(move || {
            let mut buffer = [0; 1500];
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            (buffer[..n].to_vec(), from)
        });
        let (bytes, from) = blocking.await.unwrap();
        assert_eq!(from, self.to);
        let Ok(Answer::Extended { verdict, cookie, server_port, .. }) = Answer::decode(&bytes, &echo()) else {
            panic!("{bytes:?}")
        };
        assert_eq!(server_port, None);
        if verdict == Verdict::Cookie {
            self.extension.cookie = cookie;
        }
        verdict
    }

    /// Up to the acceptance.
    async fn allocates(&mut self) {
        self.ask();
        assert_eq!(self.hears().await, Verdict::Cookie);
        self.ask();
        assert_eq!(self.hears().await, Verdict::Pending);
        assert_eq!(self.hears().await, Verdict::Accepted);
    }
}

async fn taken(server: &mut Host) -> (Program, End) {
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    let program = server.program().await;
    let end = program.redeem(&arrived.token).await.unwrap();
    (program, end)
}

/// The shim hears whoever asks: of so many classic requests for no name, from as many ports, each one.
async fn all_are_heard(server: &mut Host, callers: u64) {
    let before = server.counter("dropped_not_registered").await;
    for _ in 0..callers {
        plain(&address().to_string(), 0).send_to(b"nobody", server.listen).unwrap();
    }
    let mut heard = 0;
    for _ in 0..200 {
        heard = server.counter("dropped_not_registered").await - before;
        if heard == callers {
            return;
        }
    }
    panic!("of {callers} requests {heard} were heard");
}

/// Of requests for no name: what became of them all.
async fn noise_counted(server: &mut Host) -> u64 {
    let mut sum = 0;
    let full = ["dropped_queue_full", "dropped_while_joining"];
    for reason in ["dropped_not_registered", "dropped_prefix_rate", "dropped_classic_load"].into_iter().chain(full) {
        sum += server.counter(reason).await;
    }
    sum
}

#[tokio::test]
async fn a_life_on_one_port() {
    let (mut client, mut server) = pair().await;
    for server_ends in [true, false] {
        let ((a, ours), (b, theirs)) = flow(&mut client, &mut server).await;
        assert_eq!(theirs.socket.local_addr().unwrap(), server.listen);
        assert_eq!(ours.socket.peer_addr().unwrap(), server.listen);
        for n in 0..20u8 {
            carries(&ours.socket, &theirs.socket, &[n; 1000]);
            carries(&theirs.socket, &ours.socket, &[n; 1000]);
        }
        if server_ends {
            b.release(theirs);
            assert_eq!(a.gone().await, (ours.flow, EndReason::PeerDeallocated));
        } else {
            a.release(ours);
            assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDeallocated));
            assert_eq!(read(&theirs.socket).await.unwrap(), [0_u8; 0], "nothing but SDUs was read");
        }
        client.until("nothing left", <[_]>::is_empty).await;
        server.until("nothing left", <[_]>::is_empty).await;
    }
    all_are_heard(&mut server, 50).await;
}

#[tokio::test]
async fn a_request_that_comes_again_is_answered_again_and_never_read() {
    let mut server = Host::start(anywhere(), &LISTEN).await;
    server.register("echo").await;
    let mut caller = Caller::new(server.listen, 7);
    caller.allocates().await;
    let (_b, end) = taken(&mut server).await;
    // It plays that it heard nothing.
    for _ in 0..3 {
        caller.ask();
        assert_eq!(caller.hears().await, Verdict::Accepted);
    }
    assert_eq!(server.counter("answered_again").await, 3);
    caller.socket.connect(server.listen).unwrap();
    carries(&caller.socket, &end.socket, b"the first that the program reads");
    // Late ones of before.
    caller.socket.send(&Request::Extended(echo(), caller.extension.clone()).encode()).unwrap();
    carries(&caller.socket, &end.socket, b"the second");
    assert_eq!(server.flows().await.len(), 1);
}

#[tokio::test]
async fn no_request_is_swallowed_while_sockets_join_the_port() {
    let (mut client, mut server) = pair().await;
    // One after the other: the newest socket is in nobody's way but for a moment.
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(flow(&mut client, &mut server).await);
        all_are_heard(&mut server, 20).await;
    }
    // All at once, in a flood that comes to every socket on the port that is connected to nobody.
    let before = noise_counted(&mut server).await;
    let requests: Vec<_> = (0..200).map(|_| client.request("echo")).collect();
    let asked: Vec<_> = requests.into_iter().map(|request| tokio::spawn(client.ask(request))).collect();
    let done = Arc::new(AtomicBool::new(false));
    let noise = tokio::task::spawn_blocking({
        let (to, done) = (server.listen, done.clone());
        move || {
            let socket = plain(&address().to_string(), 0);
            let mut sent = 0;
            while sent < 100_000 && !done.load(Ordering::Relaxed) {
                sent += u64::from(socket.send_to(b"nobody", to).is_ok());
            }
            sent
        }
    });
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let sent = noise.await.unwrap();
    let mut counted = 0;
    for _ in 0..500 {
        counted = noise_counted(&mut server).await - before;
        if counted >= sent {
            break;
        }
    }
    // A full queue counts what clients sent, too.
    assert!(counted >= sent, "of {sent} {counted} are accounted for, be it as dropped");
    for ((_, ours), (_, theirs)) in &held {
        carries(&ours.socket, &theirs.socket, b"each its own");
        carries(&theirs.socket, &ours.socket, b"and back");
    }
}

#[tokio::test]
async fn a_restarted_shim_listens_among_the_flows_that_live() {
    let (mut client, mut server) = pair().await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(flow(&mut client, &mut server).await);
    }
    server.ipcpd.abort();
    let _ = (&mut server.ipcpd).await;
    // Nobody listens, and no flow's socket takes what is not its own.
    let stranger = plain(&address().to_string(), 0);
    stranger.connect(server.listen).unwrap();
    stranger.send(b"echo").unwrap();
    assert_eq!(stranger.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    server.restart_after_abort().await;
    server.register("echo").await;
    all_are_heard(&mut server, 200).await;
    for ((_, ours), (_, theirs)) in &held {
        carries(&ours.socket, &theirs.socket, b"they never noticed");
    }
    // New ones join, old ones come back, some leave: the listener hears all.
    let b = server.program().await;
    for (_, (_, theirs)) in &held[..10] {
        b.adopt(theirs);
        let said = soon("the grant", b.receiver.next()).await.unwrap();
        assert!(matches!(said, handoff::client::Said::Granted { .. }), "{said:?}");
    }
    let fresh = flow(&mut client, &mut server).await;
    all_are_heard(&mut server, 100).await;
    for ((a, ours), (_, theirs)) in held.drain(..10) {
        b.release(theirs);
        assert_eq!(a.gone().await, (ours.flow, EndReason::PeerDeallocated));
    }
    drop(held);
    all_are_heard(&mut server, 100).await;
    let ((_, ours), (_, theirs)) = &fresh;
    carries(&ours.socket, &theirs.socket, b"the new one, too");
}

#[tokio::test]
async fn a_second_daemon_on_the_port_is_refused() {
    let mut server = Host::start(anywhere(), &LISTEN).await;
    let error = second(server.listen, &LISTEN).await.unwrap_err().to_string();
    assert!(error.contains("is in use by another ipcpd-udp"), "{error}");
    let error = second(server.listen, &[]).await.unwrap_err().to_string();
    assert!(error.contains("(flows of an ipcpd-udp with --sp-range listen hold it, too)"), "{error}");
    all_are_heard(&mut server, 50).await;
    let exclusive = Host::start(anywhere(), &[]).await;
    let error = second(exclusive.listen, &LISTEN).await.unwrap_err().to_string();
    assert!(error.contains("is in use by another socket"), "{error}");
}

#[tokio::test]
async fn programs_of_other_users_do_not_accept() {
    let (mut client, mut server) = pair().await;
    server.irmd.set(Policy::AcceptFor(process().uid + 1));
    let failure = client.alloc("echo").await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotPermitted, "{failure}");
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    let refused = server.program().await.redeem(&arrived.token).await.map(|end| end.flow).unwrap_err();
    assert_eq!(refused.kind(), FailureKind::NotPermitted, "{refused}");
    assert_eq!(soon("its end", server.ended.recv()).await.unwrap().1, EndReason::NeverTaken);
    assert_eq!(server.counter("refused_other_user").await, 1);
    assert!(server.flows().await.is_empty());
}

#[tokio::test]
async fn sockets_of_other_users_do_not_join_the_port() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can play another user");
    }
    let mut server = Host::start(anywhere(), &LISTEN).await;
    let to = server.listen;
    // Credentials are a thread's own.
    let joined = std::thread::spawn(move || {
        let nobody = rustix::thread::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        [true, false].map(|port| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            if port { socket.set_reuse_port(true) } else { socket.set_reuse_address(true) }.unwrap();
            socket.bind(&to.into()).map_err(|error| error.kind())
        })
    });
    assert_eq!(joined.join().unwrap(), [Err(ErrorKind::AddrInUse); 2]);
    all_are_heard(&mut server, 50).await;
}

#[tokio::test]
async fn a_program_that_dissolves_its_socket_harms_until_its_flow_ends() {
    let (mut client, mut server) = pair().await;
    let ((_a, ours), (b, theirs)) = flow(&mut client, &mut server).await;
    let kept = theirs.socket.try_clone().unwrap();
    rustix::net::connect_unspec(&kept).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // What is documented: the newest unconnected socket gets the strangers' datagrams.
    let stranger = plain(&address().to_string(), 0);
    stranger.send_to(b"nobody", server.listen).unwrap();
    assert_eq!(kept.recv(&mut [0; 64]).unwrap(), 6);
    // Its flow over, the socket is put aside though the program keeps it.
    b.release(theirs);
    server.until("its end", <[_]>::is_empty).await;
    all_are_heard(&mut server, 100).await;
    drop(ours);
}

#[tokio::test]
async fn a_program_that_wants_the_port_for_itself_does_not_get_it() {
    let (mut client, mut server) = pair().await;
    let ((_a, _ours), (_b, theirs)) = flow(&mut client, &mut server).await;
    sockopt::set_socket_reuseport(&theirs.socket, false).unwrap();
    let ((_, ours), (_, theirs)) = flow(&mut client, &mut server).await;
    carries(&ours.socket, &theirs.socket, b"another flow, on the same port");
}

#[tokio::test]
async fn a_program_that_keeps_a_dead_flow_does_not_keep_its_clients_address() {
    let mut server = Host::start(anywhere(), &LISTEN).await;
    server.register("echo").await;
    let mut caller = Caller::new(server.listen, 7);
    caller.allocates().await;
    let (b, theirs) = taken(&mut server).await;
    let kept = theirs.socket.try_clone().unwrap();
    b.release(theirs);
    // The peer's shim is never there to acknowledge: the end is told eight times, without the socket.
    soon("the end", server.ended.recv()).await.unwrap();
    server.until("its end", |flows| flows.iter().all(|flow| flow.local_address.is_empty())).await;
    // The same address asks for another flow.
    caller.extension = Caller::new(server.listen, 8).extension;
    caller.allocates().await;
    let (_b, theirs) = taken(&mut server).await;
    caller.socket.connect(server.listen).unwrap();
    carries(&caller.socket, &theirs.socket, b"to the new one");
    kept.set_nonblocking(true).unwrap();
    assert_eq!(kept.recv(&mut [0; 64]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
}

#[tokio::test]
async fn a_classic_caller_on_the_listen_port() {
    for echo in ["on-accept", "on-arrival"] {
        let mut server = Host::start(anywhere(), &["--sp-range", "listen", "--echo", echo]).await;
        server.register("echo-server").await;
        let caller = plain(&address().to_string(), 0);
        caller.send_to(b"echo-server", server.listen).unwrap();
        let (_b, end) = taken(&mut server).await;
        caller.connect(server.listen).unwrap();
        assert_eq!(read(&caller).await.unwrap(), b"echo-server");
        // Doubled on the way: no SDU, and no second flow.
        caller.send(b"echo-server").unwrap();
        carries(&caller, &end.socket, b"ABCDEFGHIJKLMNOP");
        carries(&end.socket, &caller, b"ABCDEFGHIJKLMNOP");
        assert_eq!(server.flows().await.len(), 1);
    }
}

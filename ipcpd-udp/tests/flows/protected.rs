//! Message and stream flows: what their programs are given, and what they may do with it. The handshake is played.
#![expect(clippy::disallowed_methods, reason = "what may be lost is sent again, after a moment")]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use proto::v1::{self, Cube, EndReason, FailureKind, QosSpec};
use rustix::net::connect_unspec;

use crate::nat::{Kind, Nat};
use crate::program::{End, Program, carries, read};
use crate::stage::{Host, PORT, Policy, SOON, address, pair, pair_at, soon};
use crate::{at_once, now, plain};

const QUICK: Duration = Duration::from_millis(20);

/// A flow, taken on both sides.
async fn flow(client: &mut Host, server: &mut Host, cube: Cube, timeout_ms: u32) -> ((Program, End), (Program, End)) {
    let qos = Some(QosSpec { cube: cube.into(), timeout_ms, keepalive_ms: 1000 });
    let request = v1::AllocRequest { qos, ..client.request("echo") };
    let reply = client.ask(request).await.unwrap();
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    assert_eq!(arrived.qos.unwrap().cube(), cube);
    let (a, b) = (client.program().await, server.program().await);
    let (ours, theirs) = (a.redeem(&reply.token).await.unwrap(), b.redeem(&arrived.token).await.unwrap());
    ((a, ours), (b, theirs))
}

/// The program dissolves its socket's connection, as libflow does behind the handshake. Then a datagram gets through soon,
/// as the handshake's library sends it again and again; where from.
async fn dissolve(theirs: &End, ours: &UdpSocket) -> SocketAddr {
    connect_unspec(theirs.socket.as_fd()).unwrap();
    arrives(theirs, ours).await
}

/// Sends until it arrives; where from.
async fn arrives(theirs: &End, ours: &UdpSocket) -> SocketAddr {
    theirs.socket.set_read_timeout(Some(QUICK)).unwrap();
    let mut buffer = [0; 100];
    let again = async {
        loop {
            let _ = ours.send(b"\x40anybody there?");
            // What came before the path changed may wait, and the shims' own datagrams.
            while let Ok((n, from)) = theirs.socket.recv_from(&mut buffer) {
                if &buffer[..n] == b"\x40anybody there?" {
                    return from;
                }
            }
            tokio::time::sleep(QUICK).await;
        }
    };
    let from = soon("a datagram on the flow", again).await;
    theirs.socket.set_read_timeout(Some(SOON)).unwrap();
    from
}

#[tokio::test]
async fn both_programs_get_the_same_binding_and_listings_say_what_it_is() {
    let (mut client, mut server) = pair().await;
    server.irmd.set(Policy::Accept(b"welcome".to_vec()));
    let mut seen = Vec::new();
    for cube in [Cube::Raw, Cube::Message, Cube::Stream] {
        let ((a, ours), (b, theirs)) = flow(&mut client, &mut server, cube, 0).await;
        assert_eq!(ours.bound.binding.is_some(), cube != Cube::Raw, "{cube:?}");
        assert_eq!(ours.bound.binding, theirs.bound.binding, "{cube:?}");
        assert_eq!((ours.bound.fixed, theirs.bound.fixed), (true, cube == Cube::Raw), "{cube:?}");
        seen.extend(ours.bound.binding);
        for host in [&mut client, &mut server] {
            assert_eq!(host.flows().await[0].qos.unwrap().cube(), cube);
        }
        a.release(ours);
        assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDeallocated));
        client.until("nothing left", <[_]>::is_empty).await;
        server.until("nothing left", <[_]>::is_empty).await;
    }
    assert_ne!(seen[0], seen[1], "of this flow only");
}

#[tokio::test]
async fn on_the_listen_port_it_is_fixed() {
    let (at, of) = (SocketAddr::new(address(), PORT), SocketAddr::new(address(), PORT));
    let (mut client, mut server) = pair_at(at, of, &["--sp-range", "listen"]).await;
    let ((_a, ours), (_b, theirs)) = flow(&mut client, &mut server, Cube::Stream, 0).await;
    assert!(ours.bound.binding.is_some() && ours.bound.binding == theirs.bound.binding);
    assert!(ours.bound.fixed && theirs.bound.fixed);
    carries(&ours.socket, &theirs.socket, b"\x40there");
    carries(&theirs.socket, &ours.socket, b"\x40and back");
}

#[tokio::test]
async fn a_classic_answer_is_a_refusal() {
    let mut client = Host::start(SocketAddr::new(address(), PORT), &[]).await;
    let server = plain(&address().to_string(), PORT);
    client.knows("echo", server.local_addr().unwrap()).await;
    let ip = server.local_addr().unwrap().ip().to_string();
    let scripted = tokio::task::spawn_blocking(move || {
        let (_, cp) = server.recv_from(&mut [0; 2000]).unwrap();
        plain(&ip, 0).send_to(b"echo", cp).unwrap();
    });
    let qos = Some(QosSpec { cube: Cube::Stream.into(), ..Default::default() });
    let request = v1::AllocRequest { qos, ..client.request("echo") };
    let failure = client.ask(request).await.unwrap_err();
    scripted.await.unwrap();
    assert_eq!(failure.kind(), FailureKind::UnsupportedQos);
    assert!(failure.message.contains("answered for echo as a classic shim does"), "{failure}");
}

#[tokio::test]
async fn a_dissolved_socket_hears_its_client_wherever_it_is_and_ends_as_others_do() {
    let (mut client, mut server) = pair().await;
    for how in ["the client's program releases", "the server's dies", "the client's dies", "irmd ends it"] {
        let ((a, ours), (b, theirs)) = flow(&mut client, &mut server, Cube::Stream, 0).await;
        let from = dissolve(&theirs, &ours.socket).await;
        assert_eq!(from, ours.socket.local_addr().unwrap(), "{how}");
        theirs.socket.send_to(b"\x40back", from).unwrap();
        assert_eq!(read(&ours.socket).await.unwrap(), b"\x40back", "{how}");
        // From elsewhere, too: a client whose NAT rebinds. Who it is, is the handshake's library's to find out.
        let elsewhere = plain(&address().to_string(), 0);
        elsewhere.connect(theirs.socket.local_addr().unwrap()).unwrap();
        assert_eq!(arrives(&theirs, &elsewhere).await, elsewhere.local_addr().unwrap(), "{how}");
        let start = now();
        let (survivor, end, reason) = match how {
            "the client's program releases" => {
                a.release(ours);
                (b, theirs, EndReason::PeerDeallocated)
            }
            "the server's dies" => {
                drop((b, theirs));
                (a, ours, EndReason::PeerDied)
            }
            "the client's dies" => {
                drop((a, ours));
                (b, theirs, EndReason::PeerDied)
            }
            _ => {
                server.ipcp.dealloc(v1::DeallocRequest { flow_id: theirs.flow }).await.unwrap();
                (b, theirs, EndReason::Admin)
            }
        };
        assert_eq!(survivor.gone().await, (end.flow, reason), "{how}");
        at_once(start);
        // What was sent on the way may still wait, then it is over; nothing comes any more, and nothing leaves.
        while !read(&end.socket).await.unwrap().is_empty() {}
        let _ = elsewhere.send(b"\x40too late");
        assert_eq!(read(&end.socket).await.unwrap(), [0_u8; 0], "{how}");
        assert!(end.socket.send_to(b"x", elsewhere.local_addr().unwrap()).is_err(), "{how}");
        client.until("nothing left", <[_]>::is_empty).await;
        server.until("nothing left", <[_]>::is_empty).await;
    }
}

#[tokio::test]
async fn a_dissolved_socket_comes_back_after_a_restart() {
    let (mut client, mut server) = pair().await;
    let ((a, ours), (_b, theirs)) = flow(&mut client, &mut server, Cube::Message, 0).await;
    let ((_c, raw), (_d, bare)) = flow(&mut client, &mut server, Cube::Raw, 0).await;
    dissolve(&theirs, &ours.socket).await;
    connect_unspec(bare.socket.as_fd()).unwrap();
    server.restart().await;
    let b = server.program().await;
    b.adopt(&bare);
    assert_eq!(b.granted(&[]).await.err().unwrap().kind(), FailureKind::NotPermitted, "a raw flow stays where it is");
    b.adopt(&theirs);
    match soon("the grant", b.receiver.next()).await.unwrap() {
        handoff::client::Said::Granted { flow, binding, .. } => assert_eq!((flow.0, binding), (theirs.flow, None)),
        other => panic!("{other:?}"),
    }
    arrives(&theirs, &ours.socket).await;
    drop((raw, bare));
    b.release(theirs);
    assert_eq!(a.gone().await, (ours.flow, EndReason::PeerDeallocated));
}

/// Ports of accepted flows, before which the middlebox stands.
const SP: [u16; 4] = [46_000, 46_001, 46_002, 46_003];

/// Behind each kind of NAT the handshake gets through at once, though a catcher stands on the port of the first flows.
/// Then the NAT is another one: the flow goes on, lives on, and its end is heard.
#[tokio::test]
async fn a_client_whose_nat_rebinds_keeps_its_flow_and_hears_its_end() {
    for kind in [Kind::FullCone, Kind::PortRestricted, Kind::Symmetric] {
        let mut server = Host::start(SocketAddr::new(address(), PORT), &["--sp-range", "46000-46003"]).await;
        server.register("echo").await;
        let ports: Vec<u16> = SP.into_iter().chain([PORT]).collect();
        let inside = address();
        let nat = Nat::start(kind, [inside, address(), server.listen.ip()], &ports);
        let mut client = Host::start(SocketAddr::new(address(), PORT), &[]).await;
        client.knows("echo", SocketAddr::new(inside, PORT)).await;
        let ((a, ours), (b, theirs)) = flow(&mut client, &mut server, Cube::Stream, 1500).await;
        let before = dissolve(&theirs, &ours.socket).await;
        let outside = address();
        nat.rebind(outside);
        let after = arrives(&theirs, &ours.socket).await;
        assert!(after != before && after.ip() == outside, "{kind:?}: {before} {after}");
        theirs.socket.send_to(b"\x40follows", after).unwrap();
        let mut got = Vec::new();
        while got != b"\x40follows" {
            got = read(&ours.socket).await.unwrap();
        }
        // Longer than the flow's timeout: probes go on from the new address, and are answered there.
        let alive = now();
        while alive.elapsed() < Duration::from_secs(3) {
            server.until("the flow stays", |flows| flows.len() == 1).await;
            client.until("the flow stays", |flows| flows.len() == 1).await;
            tokio::time::sleep(QUICK * 5).await;
        }
        drop((b, theirs));
        assert_eq!(a.gone().await, (ours.flow, EndReason::PeerDied), "{kind:?}");
    }
}

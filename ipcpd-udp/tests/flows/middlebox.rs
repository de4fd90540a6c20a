//! Flows through middleboxes of every kind, in both directions, from their beginning to their end.

use std::net::SocketAddr;

use proto::shim::{Control, ControlKind, Extension, Request};
use proto::v1::{self, EndReason, FailureKind};
use proto::{BootId, HostId, Name, Qos, WireId};

use crate::nat::{Kind, Nat};
use crate::program::{End, Program, carries, read};
use crate::stage::{Host, PORT, Policy, address, soon};
use crate::{at_once, now, plain};

/// Ports of accepted flows: few, so that the middlebox can stand before each.
const SP: [u16; 8] = [45_000, 45_001, 45_002, 45_003, 45_004, 45_005, 45_006, 45_007];

/// A client behind middleboxes, the nearest first; a server before them, for which the client has a row.
async fn behind(kinds: &[Kind]) -> (Host, Host, Vec<Nat>) {
    let mut server = Host::start(SocketAddr::new(address(), PORT), &["--sp-range", "45000-45007"]).await;
    server.register("echo").await;
    let ports: Vec<u16> = SP.into_iter().chain([PORT]).collect();
    let (mut to, mut nats) = (server.listen.ip(), Vec::new());
    for &kind in kinds.iter().rev() {
        let inside = address();
        nats.push(Nat::start(kind, [inside, address(), to], &ports));
        to = inside;
    }
    let mut client = Host::start(SocketAddr::new(address(), PORT), &[]).await;
    client.knows("echo", SocketAddr::new(to, PORT)).await;
    (client, server, nats)
}

/// A flow, taken on both sides.
async fn flow(client: &mut Host, server: &mut Host, timeout_ms: u32) -> ((Program, End), (Program, End)) {
    let qos = Some(v1::QosSpec { timeout_ms, ..Default::default() });
    let request = v1::AllocRequest { qos, ..client.request("echo") };
    let start = now();
    let reply = client.ask(request).await.unwrap();
    at_once(start);
    assert_eq!(&*reply.data, b"welcome");
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    let (a, b) = (client.program().await, server.program().await);
    let (ours, theirs) = (a.redeem(&reply.token).await.unwrap(), b.redeem(&arrived.token).await.unwrap());
    ((a, ours), (b, theirs))
}

async fn a_life_behind(kinds: &[Kind], opened: bool, moved: bool) {
    let (mut client, mut server, _nats) = behind(kinds).await;
    server.irmd.set(Policy::Accept(b"welcome".to_vec()));
    for server_ends in [true, false] {
        let ((a, ours), (b, theirs)) = flow(&mut client, &mut server, 0).await;
        for n in 0..20u8 {
            carries(&ours.socket, &theirs.socket, &[n; 1000]);
            carries(&theirs.socket, &ours.socket, &[n; 1000]);
        }
        let start = now();
        if server_ends {
            b.release(theirs);
            assert_eq!(a.gone().await, (ours.flow, EndReason::PeerDeallocated), "{kinds:?}");
        } else {
            a.release(ours);
            assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDeallocated), "{kinds:?}");
            assert_eq!(read(&theirs.socket).await.unwrap(), [0_u8; 0], "OPEN was never read as an SDU");
        }
        at_once(start);
    }
    client.until("nothing left", <[_]>::is_empty).await;
    server.until("nothing left", <[_]>::is_empty).await;
    assert_eq!(client.counter("opens").await > 0, opened, "{kinds:?}");
    assert_eq!(server.counter("moves").await > 0, moved, "{kinds:?}");
}

#[tokio::test]
async fn a_full_cone_passes_the_answer_from_sp() {
    a_life_behind(&[Kind::FullCone], false, false).await;
}

#[tokio::test]
async fn an_address_restricted_cone_passes_the_answer_from_sp() {
    a_life_behind(&[Kind::AddressRestricted], false, false).await;
}

#[tokio::test]
async fn a_firewall_or_port_restricted_cone_is_opened() {
    a_life_behind(&[Kind::PortRestricted], true, false).await;
}

#[tokio::test]
async fn a_cone_that_the_answer_from_sp_poisoned_is_followed() {
    a_life_behind(&[Kind::Poisoned], true, true).await;
}

#[tokio::test]
async fn a_symmetric_nat_is_followed() {
    a_life_behind(&[Kind::Symmetric], true, true).await;
}

#[tokio::test]
async fn carrier_nats_are_passed() {
    a_life_behind(&[Kind::PortRestricted, Kind::Symmetric], true, true).await;
    a_life_behind(&[Kind::Symmetric, Kind::PortRestricted], true, true).await;
    a_life_behind(&[Kind::FullCone, Kind::PortRestricted], true, false).await;
}

/// The program is told of its flow ahead of the way to it, and hears of the socket what came of that.
#[tokio::test]
async fn a_flow_whose_port_is_not_reached_is_denied_at_its_deadline() {
    let mut server = Host::start(SocketAddr::new(address(), PORT), &["--sp-range", "45000-45007"]).await;
    server.register("echo").await;
    let inside = address();
    // It passes the listen port only.
    let _nat = Nat::start(Kind::PortRestricted, [inside, address(), server.listen.ip()], &[PORT]);
    let mut client = Host::start(SocketAddr::new(address(), PORT), &[]).await;
    client.knows("echo", SocketAddr::new(inside, PORT)).await;
    let request = v1::AllocRequest { timeout_ms: 600, ..client.request("echo") };
    let (flow, start) = (request.flow_id, now());
    let reply = client.ask(request).await.unwrap();
    let a = client.program().await;
    let failure = a.redeem(&reply.token).await.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::TimedOut);
    assert!(
        failure.message.contains("echo was accepted at") && failure.message.contains("was not reached"),
        "{failure}"
    );
    at_once(start);
    assert_eq!(soon("the end", client.ended.recv()).await.unwrap(), (flow, EndReason::NeverTaken));
    // The other side hears that it was given up.
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    assert_eq!(soon("its end", server.ended.recv()).await.unwrap().1, EndReason::PeerDied);
    assert!(server.program().await.redeem(&arrived.token).await.is_err());
    client.until("nothing left", <[_]>::is_empty).await;
    server.until("nothing left", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_dead_server_program_is_told_of_behind_a_nat() {
    let (mut client, mut server, _nats) = behind(&[Kind::Symmetric]).await;
    server.irmd.set(Policy::Accept(b"welcome".to_vec()));
    let ((a, ours), server_side) = flow(&mut client, &mut server, 0).await;
    let start = now();
    drop(server_side);
    assert_eq!(a.gone().await, (ours.flow, EndReason::PeerDied));
    at_once(start);
}

#[tokio::test]
async fn a_host_that_vanished_is_noticed_on_both_sides() {
    let (mut client, mut server, nats) = behind(&[Kind::Symmetric]).await;
    server.irmd.set(Policy::Accept(b"welcome".to_vec()));
    let ((a, ours), (b, theirs)) = flow(&mut client, &mut server, 1000).await;
    nats[0].cut();
    let start = now();
    assert_eq!(a.gone().await, (ours.flow, EndReason::PeerTimedOut));
    assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerTimedOut));
    // A second, and what a loaded machine adds.
    assert!(start.elapsed().as_secs() < 3, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_restarted_shim_takes_back_what_programs_bring_and_denies_the_rest() {
    let (mut client, mut server, _nats) = behind(&[Kind::PortRestricted]).await;
    server.irmd.set(Policy::Accept(b"welcome".to_vec()));
    let ((a, ours), (_b, theirs)) = flow(&mut client, &mut server, 3000).await;
    let ((left, lost), _theirs) = flow(&mut client, &mut server, 3000).await;
    server.restart().await;
    let b = server.program().await;
    b.adopt(&theirs);
    match soon("the grant", b.receiver.next()).await.unwrap() {
        handoff::client::Said::Granted { flow, .. } => assert_eq!(flow.0, theirs.flow),
        other => panic!("{other:?}"),
    }
    // For five seconds it says that it does not know yet; then the other flow is none.
    assert_eq!(left.gone().await, (lost.flow, EndReason::PeerUnknown));
    assert!(server.counter("said_recovering").await > 0);
    carries(&ours.socket, &theirs.socket, b"this one goes on");
    b.release(theirs);
    assert_eq!(a.gone().await, (ours.flow, EndReason::PeerDeallocated));
}

/// The request of a client whose shim says nothing more.
fn asks(name: &str) -> Vec<u8> {
    let extension = Extension {
        host: HostId(5),
        boot: BootId(6),
        client: WireId(7),
        source: String::new(),
        qos: Qos::raw(),
        deadline_ms: 0,
        listen_port: PORT,
        direct: false,
        data: Vec::new(),
        cookie: Vec::new(),
    };
    Request::Extended(Name::new(name).unwrap(), extension).encode()
}

#[tokio::test]
async fn noise_at_a_catcher_stalls_nobody() {
    let (mut client, mut server, _nats) = behind(&[Kind::Symmetric]).await;
    server.irmd.set(Policy::Accept(b"welcome".to_vec()));
    let ip = server.listen.ip();
    let attacker = plain(&address().to_string(), 0);
    // Before, between and behind: the flows' ports are few and known here.
    let flood = || {
        for n in 0..400u64 {
            let control = Control {
                kind: ControlKind::Open,
                host: HostId(n),
                boot: BootId(n),
                sender: WireId(n),
                receiver: WireId(n),
            };
            for port in SP {
                let _ = attacker.send_to(&control.encode(), (ip, port));
            }
        }
    };
    flood();
    // Accepted, and not opened by anybody yet: its catcher is open to all.
    let quiet = plain(&address().to_string(), 0);
    quiet.send_to(&asks("echo"), server.listen).unwrap();
    soon("the request", server.arrived.recv()).await.unwrap();
    while !read(&quiet).await.unwrap().windows(7).any(|bytes| bytes == b"welcome") {}
    flood();
    let ((_a, ours), (_b, theirs)) = flow(&mut client, &mut server, 0).await;
    flood();
    carries(&ours.socket, &theirs.socket, b"no noise came between");
    carries(&theirs.socket, &ours.socket, b"nor here");
    assert!(server.counter("dropped_at_catcher").await > 0);
}

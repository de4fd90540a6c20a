//! A flow's life: allocated, carried, ended.

use std::net::SocketAddr;

use proto::handoff::ToDaemon;
use proto::v1::{self, EndReason, Failure, FailureKind};

use crate::program::{Bound, End, carries, flow, process, read};
use crate::stage::{Policy, address, pair, pair_at, raise_descriptor_limit, soon};
use crate::{at_once, now, plain};

#[tokio::test]
async fn a_flow_by_name_end_to_end() {
    let (mut client, mut server) = pair().await;
    server.irmd.set(Policy::Accept(b"welcome".to_vec()));
    let (id, reply) = client.alloc("echo").await.unwrap();
    assert_eq!((&*reply.data, reply.classic), (&b"welcome"[..], false));
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    assert_eq!((arrived.source_name.as_str(), &*arrived.data, arrived.layer.as_str()), ("me", &b"hello"[..], "net"));
    let (a, b) = (client.program().await, server.program().await);
    let ours = a.redeem(&reply.token).await.unwrap();
    let theirs = b.redeem(&arrived.token).await.unwrap();
    assert_eq!((ours.flow, ours.sdu_limit, theirs.sdu_limit), (id, 65_507, 65_507));
    // sp is bound to the configured address: what the C original forgot, and what the echo's source tells.
    assert_eq!(theirs.socket.local_addr().unwrap().to_string(), reply.peer_address);
    assert_eq!(theirs.socket.local_addr().unwrap().ip(), server.listen.ip());
    assert_eq!(ours.socket.local_addr().unwrap().to_string(), arrived.peer_address);
    assert_eq!(ours.socket.local_addr().unwrap().ip(), client.listen.ip());
    for sdu in [&b"x"[..], &[7; 1400], &[8; 65_507]] {
        carries(&ours.socket, &theirs.socket, sdu);
        carries(&theirs.socket, &ours.socket, sdu);
    }
    // Both listings show it, with the process that holds it.
    for (host, accepting) in [(&mut client, false), (&mut server, true)] {
        host.until("the listing", |flows| flows.len() == 1 && flows[0].process.is_some()).await;
        let flow = host.flows().await.remove(0);
        assert_eq!((flow.name.as_str(), flow.state(), flow.accepting), ("echo", v1::FlowState::Allocated, accepting));
        assert_eq!(flow.process, Some(process()));
        let one = host.ipcp.flow(v1::FlowRequest { flow_id: flow.flow_id }).await.unwrap().into_inner();
        assert_eq!((one.local_address, one.peer_address), (flow.local_address, flow.peer_address));
    }
    // A dealloc is heard on the other side within a second, and irmd hears of both ends.
    let start = now();
    a.release(ours);
    assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDeallocated));
    at_once(start);
    assert_eq!(read(&theirs.socket).await.unwrap(), [0_u8; 0]);
    assert_eq!(soon("our end", client.ended.recv()).await.unwrap(), (id, EndReason::Deallocated));
    assert_eq!(soon("their end", server.ended.recv()).await.unwrap(), (theirs.flow, EndReason::PeerDeallocated));
    client.until("nothing left", <[_]>::is_empty).await;
    server.until("nothing left", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_flow_over_ipv6_between_ports_of_choice() {
    // Two shims of one address: only the request says where the other listens.
    let [a, b] = [address(), address()].map(|ip| {
        let SocketAddr::V4(v4) = SocketAddr::new(ip, 0) else { panic!() };
        20_000 + u16::from(v4.ip().octets()[3]) * 40 + u16::from(v4.ip().octets()[2]) % 40
    });
    let at = |port| SocketAddr::new("::1".parse().unwrap(), port);
    let (mut client, mut server) = pair_at(at(a), at(b), &[]).await;
    let ((a, ours), (b, theirs)) = flow(&mut client, &mut server).await;
    assert_eq!(ours.sdu_limit, 65_488);
    carries(&ours.socket, &theirs.socket, b"six");
    b.release(theirs);
    assert_eq!(a.gone().await, (ours.flow, EndReason::PeerDeallocated));
    server.until("the client's ack, at the port it named", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_redeem_before_the_acceptance_waits() {
    // In the C original the response could arrive before the flow's id was stored.
    let (mut client, mut server) = pair().await;
    server.irmd.set(Policy::Park);
    let request = client.request("echo");
    let calling = client.ask(request);
    let serving = async {
        let arrived = soon("the request", server.arrived.recv()).await.unwrap();
        let b = server.program().await;
        b.say(ToDaemon::Redeem(v1::Redeem { token: arrived.token.clone() }));
        // The daemon has read the redeem when it answers a later packet of the same lease.
        b.say(ToDaemon::Redeem(v1::Redeem { token: vec![1; 16] }));
        assert!(b.granted(&[]).await.is_err());
        server.irmd.decide(Policy::Accept(vec![]));
        let end = b.granted(&arrived.token).await.unwrap();
        (b, end)
    };
    let (reply, (_b, theirs)) = tokio::join!(calling, serving);
    let ours = client.program().await.redeem(&reply.unwrap().token).await;
    // The lease that took it has ended already, and the flow with it, or it still carries: never a wrong socket.
    if let Ok(ours) = ours {
        assert_eq!(ours.socket.peer_addr().unwrap(), theirs.socket.local_addr().unwrap());
    }
}

#[tokio::test]
async fn two_hosts_that_ask_each_other_do_not_wait_for_each_other() {
    // The C original held a lock over the call to its irmd, on both sides.
    let (mut a, mut b) = pair().await;
    a.register("back").await;
    b.knows("back", a.listen).await;
    for host in [&a, &b] {
        host.irmd.set(Policy::Park);
    }
    let (to_b, to_a) = (a.request("echo"), b.request("back"));
    let (to_b, to_a) = (a.ask(to_b), b.ask(to_a));
    let deciding = async {
        soon("at a", a.arrived.recv()).await.unwrap();
        soon("at b", b.arrived.recv()).await.unwrap();
        // While both wait, both still answer.
        assert_eq!((a.flows().await.len(), b.flows().await.len()), (2, 2));
        a.irmd.decide(Policy::Accept(vec![]));
        b.irmd.decide(Policy::Accept(vec![]));
    };
    let (to_b, to_a, ()) = tokio::join!(to_b, to_a, deciding);
    to_b.unwrap();
    to_a.unwrap();
}

#[tokio::test]
async fn what_was_sent_before_the_dealloc_is_read() {
    // The C original closed before the queue was drained.
    let (mut client, mut server) = pair().await;
    let ((a, ours), (b, theirs)) = flow(&mut client, &mut server).await;
    let sdus: Vec<Vec<u8>> = (0..50).map(|n| vec![n; 1000]).collect();
    for sdu in &sdus {
        ours.socket.send(sdu).unwrap();
    }
    a.release(ours);
    let start = now();
    // A program that has not read yet is told all the same.
    assert_eq!(b.gone().await.1, EndReason::PeerDeallocated);
    at_once(start);
    for sdu in &sdus {
        assert_eq!(read(&theirs.socket).await.unwrap(), *sdu);
    }
    assert_eq!(read(&theirs.socket).await.unwrap(), [0_u8; 0], "then it is over");
}

#[tokio::test]
async fn a_dead_program_is_told_of_on_the_other_side() {
    let (mut client, mut server) = pair().await;
    for server_dies in [true, false] {
        let ((a, ours), (b, theirs)) = flow(&mut client, &mut server).await;
        let start = now();
        let (survivor, end) = if server_dies {
            drop((b, theirs));
            (a, ours)
        } else {
            drop((a, ours));
            (b, theirs)
        };
        assert_eq!(survivor.gone().await, (end.flow, EndReason::PeerDied));
        at_once(start);
        assert_eq!(read(&end.socket).await.unwrap(), [0_u8; 0]);
        assert!(end.socket.send(b"x").is_err());
    }
    for host in [&mut client, &mut server] {
        let mut reasons =
            [soon("an end", host.ended.recv()).await.unwrap().1, soon("an end", host.ended.recv()).await.unwrap().1];
        reasons.sort();
        assert_eq!(reasons, [EndReason::ProgramDied, EndReason::PeerDied]);
    }
}

#[tokio::test]
async fn irmd_ends_a_flow() {
    let (mut client, mut server) = pair().await;
    let ((a, ours), (b, theirs)) = flow(&mut client, &mut server).await;
    client.ipcp.dealloc(v1::DeallocRequest { flow_id: ours.flow }).await.unwrap();
    assert_eq!(a.gone().await, (ours.flow, EndReason::Admin));
    assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDeallocated));
    let again = client.ipcp.dealloc(v1::DeallocRequest { flow_id: ours.flow }).await.unwrap_err();
    assert_eq!(Failure::from_status(&again).kind(), FailureKind::NotFound);
}

#[tokio::test]
async fn a_token_that_nobody_redeems_ends_the_flow_on_both_sides() {
    let (mut client, mut server) = pair().await;
    let (_, _reply) = client.alloc("echo").await.unwrap();
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    let b = server.program().await;
    let theirs = b.redeem(&arrived.token).await.unwrap();
    assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDied));
    assert_eq!(soon("the end", client.ended.recv()).await.unwrap().1, EndReason::NeverTaken);
}

#[tokio::test]
async fn flows_outlive_the_ipcpd_which_takes_them_back() {
    let (mut client, mut server) = pair().await;
    let ((_a, ours), (b, theirs)) = flow(&mut client, &mut server).await;
    client.restart().await;
    client.knows("echo", server.listen).await;
    // Nothing was lost, and nobody was told anything.
    carries(&ours.socket, &theirs.socket, b"one");
    carries(&theirs.socket, &ours.socket, b"two");
    assert!(client.flows().await.is_empty());
    let a = client.program().await;
    // Not for a ticket that is not its own, nor with another socket.
    let stranger = plain("127.0.0.1", 0);
    stranger.connect(stranger.local_addr().unwrap()).unwrap();
    let forged =
        End { ticket: ours.ticket.clone(), socket: stranger, flow: ours.flow, sdu_limit: 0, bound: Bound::default() };
    a.adopt(&forged);
    assert_eq!(a.granted(&[]).await.err().unwrap().kind(), FailureKind::NotPermitted);
    let mut ticket = ours.ticket.clone();
    ticket[9] ^= 1;
    a.adopt(&End {
        ticket,
        socket: ours.socket.try_clone().unwrap(),
        flow: ours.flow,
        sdu_limit: 0,
        bound: Bound::default(),
    });
    assert_eq!(a.granted(&[]).await.err().unwrap().kind(), FailureKind::NotPermitted);
    a.adopt(&ours);
    match soon("the grant", a.receiver.next()).await.unwrap() {
        handoff::client::Said::Granted { flow, sdu_limit, .. } => assert_eq!((flow.0, sdu_limit), (ours.flow, 65_507)),
        other => panic!("{other:?}"),
    }
    let row = client.flows().await.remove(0);
    assert_eq!((row.name.as_str(), row.source_name.as_str(), row.flow_id), ("echo", "me", ours.flow));
    // Its ids are known again: a dealloc reaches the other side.
    carries(&ours.socket, &theirs.socket, b"three");
    a.release(ours);
    assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDeallocated));
}

#[tokio::test]
async fn a_thousand_flows_at_once() {
    raise_descriptor_limit();
    let (mut client, mut server) = pair().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let request = v1::AllocRequest { timeout_ms: 20_000, ..client.request("echo") };
        calls.spawn(client.ask(request));
    }
    while let Some(result) = soon("every Alloc", calls.join_next()).await {
        result.unwrap().unwrap();
    }
    assert_eq!(server.arrived.len(), 1000);
    assert_eq!(client.flows().await.len(), 1000);
    server.until("all of them", |flows| flows.len() == 1000).await;
}

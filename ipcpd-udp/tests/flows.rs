//! Flows between two ipcpds on loopback addresses, with a played irmd on each side: sockets, gRPC and hand-over are real.

mod stage;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use proto::handoff::ToDaemon;
use proto::shim::{Control, ControlKind, Request};
use proto::v1::{self, EndReason, Failure, FailureKind};
use proto::{BootId, HostId, Name, WireId};
use stage::{Host, PORT, Policy, SOON, address, carries, flow, pair, pair_at, read, soon};

fn within_a_second(start: Instant) {
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[expect(clippy::disallowed_methods, reason = "tests measure")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a scripted peer is a plain socket")]
fn plain(ip: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((ip, port)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

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
        assert_eq!(flow.process, Some(stage::process()));
        let one = host.ipcp.flow(v1::FlowRequest { flow_id: flow.flow_id }).await.unwrap().into_inner();
        assert_eq!((one.local_address, one.peer_address), (flow.local_address, flow.peer_address));
    }
    // A dealloc is heard on the other side within a second, and irmd hears of both ends.
    let start = now();
    a.release(ours);
    assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDeallocated));
    within_a_second(start);
    assert_eq!(read(&theirs.socket).await.unwrap(), []);
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
async fn an_unknown_name_fails_at_once() {
    let (mut client, mut server) = pair().await;
    let start = now();
    assert_eq!(client.alloc("nowhere").await.unwrap_err().kind(), FailureKind::UnknownName);
    // In the static table, but its host does not serve it.
    client.knows("gone", server.listen).await;
    assert_eq!(client.alloc("gone").await.unwrap_err().kind(), FailureKind::UnknownName);
    within_a_second(start);
    assert_eq!(server.counter("dropped_not_registered").await, 1);
    assert!(client.flows().await.is_empty() && server.flows().await.is_empty());
}

#[tokio::test]
async fn a_refusal_comes_with_its_reason() {
    let (mut client, server) = pair().await;
    server.irmd.set(Policy::Refuse("full house"));
    let failure = client.alloc("echo").await.unwrap_err();
    assert_eq!((failure.kind(), failure.reason.as_str()), (FailureKind::Refused, "full house"));
}

#[tokio::test]
async fn nobody_accepts_and_the_stale_flow_is_gone() {
    let (mut client, mut server) = pair().await;
    server.irmd.set(Policy::Park);
    let request = v1::AllocRequest { timeout_ms: 400, ..client.request("echo") };
    let start = now();
    let status = soon("Alloc", client.ipcp.alloc(request)).await.unwrap_err();
    let failure = Failure::from_status(&status);
    assert_eq!(failure.kind(), FailureKind::NobodyAccepts, "{failure}");
    within_a_second(start);
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    assert!(server.flows().await.is_empty());
    // A program that comes too late is told so, and irmd that its acceptance came to nothing.
    let denied = server.program().await.redeem(&arrived.token).await;
    assert!(denied.is_err());
}

#[tokio::test]
async fn a_silent_host_times_out_and_a_closed_port_is_named() {
    let mut client = Host::start(SocketAddr::new(address(), PORT), &[]).await;
    let silent = plain(&address().to_string(), PORT);
    client.knows("silent", silent.local_addr().unwrap()).await;
    let request = v1::AllocRequest { timeout_ms: 700, ..client.request("silent") };
    let failure = Failure::from_status(&soon("Alloc", client.ipcp.alloc(request)).await.unwrap_err());
    assert_eq!((failure.kind(), failure.asked), (FailureKind::TimedOut, 2), "{failure}");
    // ICMP says that nothing listens: twice, and it is believed.
    client.knows("closed", SocketAddr::new(address(), PORT)).await;
    let start = now();
    let failure = client.alloc("closed").await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::TimedOut);
    assert!(failure.message.contains("port closed"), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(2), "well before the deadline: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_redeem_before_the_acceptance_waits() {
    // In the C original the response could arrive before the flow's id was stored.
    let (mut client, mut server) = pair().await;
    server.irmd.set(Policy::Park);
    let (request, mut ipcp) = (client.request("echo"), client.ipcp.clone());
    let calling = async { soon("Alloc", ipcp.alloc(request)).await.unwrap().into_inner() };
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
    let ours = client.program().await.redeem(&reply.token).await;
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
    let (mut ipcp_a, mut ipcp_b) = (a.ipcp.clone(), b.ipcp.clone());
    let deciding = async {
        soon("at a", a.arrived.recv()).await.unwrap();
        soon("at b", b.arrived.recv()).await.unwrap();
        // While both wait, both still answer.
        assert_eq!((a.flows().await.len(), b.flows().await.len()), (2, 2));
        a.irmd.decide(Policy::Accept(vec![]));
        b.irmd.decide(Policy::Accept(vec![]));
    };
    let (to_b, to_a, ()) = tokio::join!(ipcp_a.alloc(to_b), ipcp_b.alloc(to_a), deciding);
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
    within_a_second(start);
    for sdu in &sdus {
        assert_eq!(read(&theirs.socket).await.unwrap(), *sdu);
    }
    assert_eq!(read(&theirs.socket).await.unwrap(), [], "then it is over");
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
        within_a_second(start);
        assert_eq!(read(&end.socket).await.unwrap(), []);
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
    let forged = stage::End { ticket: ours.ticket.clone(), socket: stranger, flow: ours.flow, sdu_limit: 0 };
    a.adopt(&forged);
    assert_eq!(a.granted(&[]).await.err().unwrap().kind(), FailureKind::NotPermitted);
    let mut ticket = ours.ticket.clone();
    ticket[9] ^= 1;
    a.adopt(&stage::End { ticket, socket: ours.socket.try_clone().unwrap(), flow: ours.flow, sdu_limit: 0 });
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
async fn irmd_goes_and_comes_back() {
    let (mut client, mut server) = pair().await;
    let ((_a, ours), (_b, theirs)) = flow(&mut client, &mut server).await;
    server.stop_irmd();
    carries(&ours.socket, &theirs.socket, b"flows go on");
    let failure = client.alloc("echo").await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NobodyAccepts, "{failure}");
    assert!(failure.message.contains("irmd"), "{failure}");
    server.start_irmd();
    let attached = soon("attaching again", server.attached.recv()).await.unwrap();
    assert_eq!((attached.layer.as_str(), attached.address), ("net", server.listen.to_string()));
    assert_eq!(attached.config.unwrap().ip, server.listen.ip().to_string());
    client.alloc("echo").await.unwrap();
}

#[tokio::test]
async fn shutdown_tells_programs_and_peers_and_answers() {
    let (mut client, mut server) = pair().await;
    let ((a, ours), (b, theirs)) = flow(&mut client, &mut server).await;
    soon("Shutdown", client.ipcp.shutdown(v1::Empty {})).await.unwrap();
    assert_eq!(a.gone().await, (ours.flow, EndReason::IpcpStopped));
    assert_eq!(b.gone().await, (theirs.flow, EndReason::PeerDied));
    soon("the end of the ipcpd", &mut client.ipcpd).await.unwrap().unwrap();
    assert!(!client.run_dir.ipcp("udp0").exists() && !client.run_dir.ipcp_handoff("udp0").exists());
}

#[tokio::test]
async fn noise_on_both_ports_of_a_flow_changes_nothing() {
    let (mut client, mut server) = pair().await;
    let ((_a, ours), (_b, theirs)) = flow(&mut client, &mut server).await;
    let (noise, to) = (plain(&address().to_string(), 0), server.listen);
    let sp = theirs.socket.local_addr().unwrap();
    let mut sent = 0;
    for n in 0..60_000usize {
        // Lengths from nothing to the longest, bytes from a fixed sequence.
        let length = [0, 1, 40, 255, 256, 1199, 1200, 1201, 65_507][n % 9];
        if length > 2000 && n > 500 {
            continue;
        }
        let bytes: Vec<u8> = (0..length).map(|i| ((i * 31 + n * 17) % 251) as u8).collect();
        noise.send_to(&bytes, to).unwrap();
        if n < 500 {
            noise.send_to(&bytes, sp).unwrap();
        }
        sent += 1;
        if sent > 3000 {
            break;
        }
    }
    carries(&ours.socket, &theirs.socket, b"no stranger's datagram came between");
    client.alloc("echo").await.unwrap();
    for reason in ["dropped_empty", "dropped_bad_name", "dropped_too_long"] {
        assert!(server.counter(reason).await > 0, "{reason}");
    }
}

#[tokio::test]
async fn spoofed_ends_end_nothing() {
    let (mut client, mut server) = pair().await;
    let ((_a, ours), (_b, theirs)) = flow(&mut client, &mut server).await;
    let attacker = plain(&address().to_string(), 0);
    for n in 0..500 {
        for kind in [ControlKind::Dealloc { died: false }, ControlKind::NoSuchFlow, ControlKind::DeallocAck] {
            let control =
                Control { kind, host: HostId(1), boot: BootId(1), sender: WireId(n), receiver: WireId(n * 7) };
            attacker.send_to(&control.encode(), server.listen).unwrap();
        }
    }
    server.until("the flow as it was", |flows| flows.len() == 1 && flows[0].state() == v1::FlowState::Allocated).await;
    carries(&ours.socket, &theirs.socket, b"still here");
    assert!(server.counter("unknown_flow").await > 0);
}

#[tokio::test]
async fn keep_alives_stay_out_of_sight_and_find_a_dead_end() {
    let (mut client, mut server) = pair().await;
    let qos = Some(v1::QosSpec { keepalive_ms: 1000, ..Default::default() });
    let request = v1::AllocRequest { qos, ..client.request("echo") };
    let reply = soon("Alloc", client.ipcp.alloc(request)).await.unwrap().into_inner();
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    assert_eq!(arrived.qos.unwrap().keepalive_ms, 1000);
    let (a, b) = (client.program().await, server.program().await);
    let ours = a.redeem(&reply.token).await.unwrap();
    let theirs = b.redeem(&arrived.token).await.unwrap();
    // The server's shim dies with its state, and the program closes its socket: nobody says goodbye.
    theirs.socket.set_read_timeout(Some(Duration::from_millis(1800))).unwrap();
    let seen = read(&theirs.socket).await;
    assert_eq!(seen.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "no keep-alive reads as an SDU");
    server.ipcpd.abort();
    let _ = (&mut server.ipcpd).await;
    drop((b, theirs));
    server.restart_after_abort().await;
    assert_eq!(a.gone().await, (ours.flow, EndReason::PeerUnknown));
}

#[tokio::test]
async fn a_classic_caller_over_real_sockets() {
    for echo in ["on-accept", "on-arrival"] {
        let at = SocketAddr::new(address(), PORT);
        let mut server = Host::start(at, &["--echo", echo, "--sp-range", "47000-47999"]).await;
        server.register("echo-server").await;
        let caller = plain(&address().to_string(), 0);
        caller.send_to(b"echo-server", at).unwrap();
        let arrived = soon("the request", server.arrived.recv()).await.unwrap();
        assert_eq!((arrived.source_name.as_str(), arrived.classic), ("John Day", true));
        let mut buffer = [0; 256];
        let waiting = caller.try_clone().unwrap();
        let (n, sp, buffer) = tokio::task::spawn_blocking(move || {
            let (n, sp) = waiting.recv_from(&mut buffer).unwrap();
            (n, sp, buffer)
        })
        .await
        .unwrap();
        assert_eq!(&buffer[..n], b"echo-server");
        assert!(sp.ip() == at.ip() && (47_000..48_000).contains(&sp.port()), "{sp}");
        let program = server.program().await;
        let end = program.redeem(&arrived.token).await.unwrap();
        caller.connect(sp).unwrap();
        carries(&caller, &end.socket, b"ABCDEFGHIJKLMNOP");
        carries(&end.socket, &caller, b"ABCDEFGHIJKLMNOP");
        // Dealloc says nothing to a classic peer; its next send meets a closed port.
        program.release(end);
        soon("the end", server.ended.recv()).await.unwrap();
        caller.send(b"BCDEFGHIJKLMNOPQ").unwrap();
        let error = caller.recv(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn a_classic_server_over_real_sockets() {
    let mut client = Host::start(SocketAddr::new(address(), PORT), &[]).await;
    let server = plain(&address().to_string(), PORT);
    client.knows("echo-server", server.local_addr().unwrap()).await;
    let ip = server.local_addr().unwrap().ip().to_string();
    let scripted = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 256];
        let (n, cp) = server.recv_from(&mut buffer).unwrap();
        let name = buffer[..n].split(|byte| *byte == 0).next().unwrap().to_vec();
        let sp = plain(&ip, 0);
        sp.connect(cp).unwrap();
        // An SDU right behind the echo, while the client still connects.
        for payload in [&name[..], b"first"] {
            sp.send(payload).unwrap();
        }
        sp
    });
    let request = v1::AllocRequest { timeout_ms: 5000, ..client.request("echo-server") };
    let reply = soon("Alloc", client.ipcp.alloc(request)).await.unwrap().into_inner();
    assert!(reply.classic);
    let sp = scripted.await.unwrap();
    let program = client.program().await;
    let end = program.redeem(&reply.token).await.unwrap();
    let mut buffer = [0; 64];
    let n = end.socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"first");
    // The echo again, late: the program does not see it.
    sp.send(b"echo-server").unwrap();
    carries(&end.socket, &sp, b"ABCDEFGHIJKLMNOP");
    carries(&sp, &end.socket, b"ABCDEFGHIJKLMNOP");
    // Gone without a word: the program's kernel hears of it, and says so.
    drop(sp);
    end.socket.send(b"x").unwrap();
    assert_eq!(end.socket.recv(&mut buffer).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    program.say(ToDaemon::Suspect(v1::Suspect { flow_id: end.flow }));
    assert_eq!(program.gone().await, (end.flow, EndReason::PeerUnknown));
}

#[tokio::test]
async fn lost_and_doubled_requests_make_one_flow() {
    let at = SocketAddr::new(address(), PORT);
    let mut server = Host::start(at, &[]).await;
    server.register("echo").await;
    let caller = plain(&address().to_string(), 0);
    let extension = proto::shim::Extension {
        host: HostId(5),
        boot: BootId(6),
        client: WireId(7),
        source: "scripted".into(),
        qos: proto::Qos::raw(),
        deadline_ms: 5000,
        listen_port: PORT,
        data: vec![],
        cookie: vec![],
    };
    let request = Request::Extended(Name::new("echo").unwrap(), extension).encode();
    for _ in 0..20 {
        caller.send_to(&request, at).unwrap();
    }
    server.until("one flow", |flows| flows.iter().any(|flow| flow.state() == v1::FlowState::Allocated)).await;
    assert_eq!(server.flows().await.len(), 1);
    assert!(server.counter("duplicates").await > 0);
    assert_eq!(server.arrived.len(), 1);
}

#[tokio::test]
async fn a_thousand_flows_at_once() {
    let (mut client, mut server) = pair().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (request, mut ipcp) =
            (v1::AllocRequest { timeout_ms: 20_000, ..client.request("echo") }, client.ipcp.clone());
        calls.spawn(async move { ipcp.alloc(request).await.map(drop) });
    }
    while let Some(result) = soon("every Alloc", calls.join_next()).await {
        result.unwrap().unwrap();
    }
    assert_eq!(server.arrived.len(), 1000);
    assert_eq!(client.flows().await.len(), 1000);
    server.until("all of them", |flows| flows.len() == 1000).await;
}

#[tokio::test]
async fn bootstrap_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        clap::Parser::try_parse_from(["ipcpd-udp", "--name", "udp0", "--run-dir", dir.path().to_str().unwrap()]);
    let run = tokio::task::LocalSet::new();
    run.run_until(async {
        let _ipcpd = tokio::task::spawn_local(ipcpd_udp::io::run(options.unwrap(), std::future::pending()));
        let path = proto::RunDir::find(Some(dir.path())).unwrap().ipcp("udp0");
        let connect = async {
            loop {
                let mut ipcp = stage::client(path.clone());
                if ipcp.report(v1::Empty {}).await.is_ok() {
                    return ipcp;
                }
                tokio::task::yield_now().await;
            }
        };
        let mut ipcp = soon("the socket", connect).await;
        let udp = |ip: &str, port: u32| v1::UdpConfig { ip: ip.into(), port, ..Default::default() };
        let mut bootstrap = async |version, udp| {
            let request = v1::BootstrapRequest { version, layer: "net".into(), udp: Some(udp) };
            ipcp.bootstrap(request).await.map(drop).map_err(|status| Failure::from_status(&status))
        };
        let ip = address().to_string();
        let taken = plain(&ip, 0);
        let port = u32::from(taken.local_addr().unwrap().port());
        let table = [
            (1, udp(&ip, port), FailureKind::AddressInUse),
            (1, udp("192.0.2.1", 0), FailureKind::NoSuchAddress),
            (1, udp("nonsense", 0), FailureKind::Invalid),
            (9, udp(&ip, port), FailureKind::Invalid),
        ];
        for (version, udp, want) in table {
            let failure = bootstrap(version, udp).await.unwrap_err();
            assert_eq!(failure.kind(), want, "{failure}");
        }
        drop(taken);
        bootstrap(1, udp(&ip, port)).await.unwrap();
        bootstrap(1, udp(&ip, port)).await.unwrap();
        let other = bootstrap(1, udp(&ip, port + 1)).await.unwrap_err();
        assert_eq!(other.kind(), FailureKind::AlreadyExists, "{other}");
        let registered = ipcp.register(v1::RegisterRequest { name: "two words".into() }).await.unwrap_err();
        assert_eq!(Failure::from_status(&registered).kind(), FailureKind::Invalid);
    })
    .await;
}

//! What goes wrong, and what is done wrong to a shim.

use std::net::SocketAddr;
use std::time::Duration;

use proto::shim::{Control, ControlKind, Request};
use proto::v1::{self, EndReason, Failure, FailureKind};
use proto::{BootId, HostId, Name, WireId};

use crate::program::{carries, flow, read};
use crate::stage::{Host, PORT, Policy, address, client, pair, soon};
use crate::{at_once, now, plain};

#[tokio::test]
async fn an_unknown_name_fails_at_once() {
    let (mut client, mut server) = pair().await;
    let start = now();
    assert_eq!(client.alloc("nowhere").await.unwrap_err().kind(), FailureKind::UnknownName);
    // In the static table, but its host does not serve it.
    client.knows("gone", server.listen).await;
    assert_eq!(client.alloc("gone").await.unwrap_err().kind(), FailureKind::UnknownName);
    at_once(start);
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
    let failure = client.ask(request).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NobodyAccepts, "{failure}");
    at_once(start);
    let arrived = soon("the request", server.arrived.recv()).await.unwrap();
    server.irmd.abandoned().await;
    assert!(server.flows().await.is_empty());
    // A program that comes too late is told so, and irmd that its acceptance came to nothing.
    let denied = server.program().await.redeem(&arrived.token).await;
    assert!(denied.is_err());
}

#[tokio::test]
async fn a_caller_that_goes_away_is_forgotten_on_both_sides() {
    let (mut client, mut server) = pair().await;
    server.irmd.set(Policy::Park);
    let request = v1::AllocRequest { timeout_ms: 60_000, ..client.request("echo") };
    {
        let call = std::pin::pin!(client.ask(request));
        tokio::select! {
            _ = call => panic!("nobody has accepted"),
            arrived = soon("the request", server.arrived.recv()) => drop(arrived),
        }
        // PENDING was sent before irmd was asked; the client's task reads it between these calls.
        for _ in 0..20 {
            client.counter("answers").await;
        }
    }
    // The call is dropped, and the server's shim told.
    client.until("nothing left", <[_]>::is_empty).await;
    server.irmd.abandoned().await;
    server.until("nothing left", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_silent_host_times_out_and_a_closed_port_is_named() {
    let mut client = Host::start(SocketAddr::new(address(), PORT), &[]).await;
    let silent = plain(&address().to_string(), PORT);
    client.knows("silent", silent.local_addr().unwrap()).await;
    let request = v1::AllocRequest { timeout_ms: 700, ..client.request("silent") };
    let failure = client.ask(request).await.unwrap_err();
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
    let reply = client.ask(request).await.unwrap();
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
        direct: false,
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
                let mut ipcp = client(path.clone());
                if ipcp.report(v1::Empty {}).await.is_ok() {
                    return ipcp;
                }
                tokio::task::yield_now().await;
            }
        };
        let mut ipcp = soon("the socket", connect).await;
        let udp = |ip: &str, port: u32| v1::UdpConfig { ip: ip.into(), port, ..Default::default() };
        let bootstrap = async |version, udp| {
            let request = v1::BootstrapRequest { version, layer: "net".into(), udp: Some(udp), ..Default::default() };
            ipcp.clone().bootstrap(request).await.map(drop).map_err(|status| Failure::from_status(&status))
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
        // Who is bootstrapped already hears the host's key so.
        for (host_key, fine) in [("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", true), ("SHA256:me", false)] {
            let udp = Some(udp(&ip, port));
            let request = v1::BootstrapRequest { version: 1, layer: "net".into(), udp, host_key: host_key.into() };
            let said = ipcp.clone().bootstrap(request).await.map_err(|status| Failure::from_status(&status));
            assert_eq!(said.is_ok(), fine, "{said:?}");
            assert!(said.err().is_none_or(|failure| failure.message.contains("43 characters")));
        }
        let other = bootstrap(1, udp(&ip, port + 1)).await.unwrap_err();
        assert_eq!(other.kind(), FailureKind::AlreadyExists, "{other}");
        let registered =
            ipcp.register(v1::RegisterRequest { name: "two words".into(), ..Default::default() }).await.unwrap_err();
        assert_eq!(Failure::from_status(&registered).kind(), FailureKind::Invalid);
    })
    .await;
}
